//! Times of the axis, with a precision that depends on the distance of its ticks.

const MILLI: i64 = 1_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Formats a time since the start, precise enough to distinguish it from one that is `unit` later.
pub(super) fn precise(micros: i64, unit: i64) -> String {
    let micros = micros.max(0);
    match micros {
        0 => "0".into(),
        1..MILLI if unit < MILLI => format!("{micros} µs"),
        _ if micros < SECOND => decimal(micros, MILLI, unit, "ms"),
        _ if micros < MINUTE => decimal(micros, SECOND, unit, "s"),
        _ if micros < HOUR => {
            let rest = micros % MINUTE;
            let seconds = if rest == 0 {
                String::new()
            } else {
                format!(" {}", decimal(rest, SECOND, unit, "s"))
            };
            format!("{} min{seconds}", micros / MINUTE)
        }
        _ if micros < DAY => format!("{} h {:02} min", micros / HOUR, micros % HOUR / MINUTE),
        _ => format!("{} d {} h", micros / DAY, micros % DAY / HOUR),
    }
}

/// Formats a number of a time unit with as many digits as needed, at most three.
fn decimal(micros: i64, of: i64, unit: i64, name: &str) -> String {
    let (mut digits, mut part) = (0_usize, of);
    while part > unit && digits < 3 {
        part /= 10;
        digits += 1;
    }
    let rest = micros % of / part;
    let text = if digits == 0 {
        (micros / of).to_string()
    } else {
        format!("{}.{rest:0digits$}", micros / of)
    };
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_as_exact_as_its_neighbours_are_far() {
        for (micros, unit, text) in [
            (0, 1, "0"),
            (200, 100, "200 µs"),
            (1_500, 500, "1.5 ms"),
            (20_000, 10_000, "20 ms"),
            (1_831_000, 10_000, "1.83 s"),
            (60_000_000, 1_000, "1 min"),
            (90_050_000, 10_000, "1 min 30.05 s"),
            (5_400_000_000, 1, "1 h 30 min"),
            (i64::MAX, 1, "106751991 d 4 h"),
        ] {
            assert_eq!(precise(micros, unit), text);
        }
    }
}
