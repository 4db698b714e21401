//! Writing the pieces of a canonical line without allocating: strings, integers, times, tags.

/// Appends `text` as a JSON string, escaped as RFC 8785 escapes, in at most `bytes_max` bytes between the
/// quotes. What is longer ends in `…`, so that nobody takes it for the whole.
pub(crate) fn string(buf: &mut Vec<u8>, text: &str, bytes_max: usize) {
    buf.push(b'"');
    let clean = text.len() <= bytes_max && text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\');
    if clean {
        buf.extend_from_slice(text.as_bytes());
    } else {
        escaped(buf, text, bytes_max);
    }
    buf.push(b'"');
}

const ELLIPSIS: &str = "…";

fn escaped(buf: &mut Vec<u8>, text: &str, bytes_max: usize) {
    let start = buf.len();
    // Where to cut, should the text turn out too long: the last place that leaves room for the ellipsis.
    let mut cut = start;
    for character in text.chars() {
        if buf.len() - start + ELLIPSIS.len() <= bytes_max {
            cut = buf.len();
        }
        escape(buf, character);
        if buf.len() - start > bytes_max {
            buf.truncate(cut);
            buf.extend_from_slice(ELLIPSIS.as_bytes());
            return;
        }
    }
}

fn escape(buf: &mut Vec<u8>, character: char) {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\t' => b't',
        '\n' => b'n',
        '\u{c}' => b'f',
        '\r' => b'r',
        '\0'..=' ' if character != ' ' => {
            buf.extend_from_slice(b"\\u00");
            hex(buf, &[u8::try_from(character).unwrap_or(0)]);
            return;
        }
        _ => {
            buf.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
    };
    buf.extend_from_slice(&[b'\\', short]);
}

/// Appends a decimal integer; one beyond 2^53 - 1 is written as 2^53 - 1, the largest that JSON readers agree on.
pub(crate) fn integer(buf: &mut Vec<u8>, value: u64) {
    let mut value = value.min((1 << 53) - 1);
    let mut digits = [0; 16];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    buf.extend_from_slice(&digits[at..]);
}

/// Appends bytes as lower-case hex digits.
pub(crate) fn hex(buf: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        buf.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The last microsecond of the year 9999, the last that RFC 3339 can write.
const LAST_US: i64 = 253_402_300_799_999_999;

/// Appends a time as `2026-11-22T20:42:36.000042Z`; times before 1970 or after 9999 become the nearest within.
pub(crate) fn time(buf: &mut Vec<u8>, at_us: i64) {
    let at_us = at_us.clamp(0, LAST_US).unsigned_abs();
    let (at_s, us) = (at_us / 1_000_000, at_us % 1_000_000);
    day(buf, at_s);
    let (hours, minutes, seconds) = (at_s / 3_600 % 24, at_s / 60 % 60, at_s % 60);
    for (sign, value) in [(b'T', hours), (b':', minutes), (b':', seconds)] {
        buf.push(sign);
        padded::<2>(buf, value);
    }
    buf.push(b'.');
    padded::<6>(buf, us);
    buf.push(b'Z');
}

/// Appends the day of a time in seconds as `2026-11-22`; a day after 9999 becomes 9999's last.
pub(crate) fn day(buf: &mut Vec<u8>, at_s: u64) {
    // The civil calendar from a day count, after Howard Hinnant's `civil_from_days`: eras of 400 years that begin
    // on 1 March of year 0.
    let days = at_s.min(LAST_US.unsigned_abs() / 1_000_000) / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    padded::<4>(buf, year);
    buf.push(b'-');
    padded::<2>(buf, month);
    buf.push(b'-');
    padded::<2>(buf, day);
}

fn padded<const DIGITS: usize>(buf: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; DIGITS];
    for place in digits.iter_mut().rev() {
        *place = b'0' + digit(value % 10);
        value /= 10;
    }
    buf.extend_from_slice(&digits);
}

fn digit(value: u64) -> u8 {
    u8::try_from(value).unwrap_or(0)
}
