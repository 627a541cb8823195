//! Questions to the operator before a change.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::error::Error;

/// Asks whether to continue, unless `yes`. Fails if there is no terminal to ask on.
pub(crate) fn agreed(out: &mut impl Write, question: &str, yes: bool) -> Result<bool, Error> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(refused("ask on; give --yes to skip the question"));
    }
    let answer = answer(out, &mut io::stdin().lock(), &format!("{question} [y/N] "))?;
    Ok(["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()))
}

/// Returns the given reason, or asks for one. Fails if there is no terminal to ask on, or the
/// reason is empty.
pub(crate) fn reason(out: &mut impl Write, given: Option<String>) -> Result<String, Error> {
    if let Some(given) = given {
        return Ok(given);
    }
    if !io::stdin().is_terminal() {
        return Err(refused("ask for the reason on; give --why"));
    }
    match answer(out, &mut io::stdin().lock(), "Why? (kept with your name) ")? {
        why if why.is_empty() => Err(Error::Refused("a reason is needed; give --why".into())),
        why => Ok(why),
    }
}

fn refused(to: &str) -> Error {
    Error::Refused(format!("standard input is no terminal to {to}"))
}

fn answer(out: &mut impl Write, from: &mut impl BufRead, question: &str) -> io::Result<String> {
    write!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    from.read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_and_the_end_of_input_is_none() {
        let mut asked = Vec::new();
        let mut lines = &b" yes \nmore"[..];
        assert_eq!(answer(&mut asked, &mut lines, "Go on? ").unwrap(), "yes");
        assert_eq!(answer(&mut asked, &mut &b""[..], "Go on? ").unwrap(), "");
        assert_eq!(asked, b"Go on? Go on? ");
    }
}
