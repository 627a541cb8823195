/// Returns an error and its causes on one line: `the receipt was not sent: connection refused`.
/// Leaves out a cause whose text is part of the previous error's.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.dedup_by(|next, before| before.contains(&**next));
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum NotSent {
        #[error("the receipt was not sent")]
        Plain(#[source] io::Error),
        #[error("the receipt was not sent, since {0}")]
        Repeating(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_told_once() {
        let cause = || io::Error::other("connection refused");
        let expected = "the receipt was not sent: connection refused";
        assert_eq!(error_chain(&NotSent::Plain(cause())), expected);
        let expected = "the receipt was not sent, since connection refused";
        assert_eq!(error_chain(&NotSent::Repeating(cause())), expected);
    }
}
