//! Reading many leaves fast. Most leaves of a log differ from an earlier one in a few numbers only: when, which, how much.
//! A mould is a leaf that was read in full, with gaps where such numbers stand. A line that fits it is a leaf that says the
//! same as that one, but for the numbers: every other byte is equal, and what is in the gaps is written in the only way in which
//! it can be.

use crate::line::{LEAF_BYTES_MAX, Out};
use crate::read::{Parsed, parse};

/// What stands in a gap, and what stands before it.
const GAPS: [(&[u8], Gap); 7] = [
    (b",\"bytes\":", Gap::Count),
    (b",\"dc\":\"", Gap::Tag),
    (b",\"gseq\":", Gap::Gseq),
    (b",\"id\":\"", Gap::Id),
    (b",\"rows\":", Gap::Count),
    (b",\"sub\":\"", Gap::Tag),
    (b",\"ts\":\"", Gap::Time),
];
/// The length of a time, `2026-11-22T20:42:36.000042Z`.
const TIME_BYTES: usize = 27;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    Count,
    Gseq,
    Tag,
    Id,
    Time,
}

/// A leaf about a decision, with gaps.
#[derive(Debug, Clone)]
pub struct Mould {
    /// What stands before each gap.
    pieces: Vec<(Vec<u8>, Gap)>,
    /// What stands behind the last.
    rest: Vec<u8>,
    /// The day of the leaf's time: its text, and its beginning in microseconds since 1970-01-01 UTC.
    day: [u8; 10],
    day_us: i64,
}

/// What is in the gaps that matter for the order of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// The gateway's count.
    pub gseq: u64,
    /// When the decision was taken, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

impl Mould {
    /// The mould of a leaf that was read. `None` for a denial, and where data crossed a border: those are few, and each is looked at
    /// by itself.
    #[must_use]
    pub fn of(line: &[u8], parsed: &Parsed) -> Option<Self> {
        if parsed.out == Out::Deny || parsed.decision.transfer.is_some() {
            return None;
        }
        let (mut pieces, mut at) = (Vec::new(), 0);
        let mut day = None;
        for (before, gap) in GAPS {
            // No string holds such a text: a quote within one stands behind a backslash.
            let Some(found) = line[at..].windows(before.len()).position(|window| window == before) else { continue };
            let begin = at + found + before.len();
            pieces.push((line[at..begin].to_vec(), gap));
            at = begin + gap.length(&line[begin..])?;
            if gap == Gap::Time {
                day = line.get(begin..begin + 10)?.try_into().ok();
            }
        }
        let day: [u8; 10] = day?;
        const DAY_US: i64 = 86_400_000_000;
        let day_us = parsed.decision.at_us.div_euclid(DAY_US) * DAY_US;
        let mould = Self { pieces, rest: line[at..].to_vec(), day, day_us };
        // It fits itself, or it is none.
        let itself = Cast { gseq: parsed.gseq, at_us: parsed.decision.at_us };
        (mould.cast(line) == Some(itself)).then_some(mould)
    }

    /// What a line has in the gaps, if it fits.
    #[must_use]
    pub fn cast(&self, line: &[u8]) -> Option<Cast> {
        if line.len() > LEAF_BYTES_MAX {
            return None;
        }
        let (mut left, mut gseq, mut at_us) = (line, None, None);
        for (piece, gap) in &self.pieces {
            left = left.strip_prefix(piece.as_slice())?;
            let length = gap.length(left)?;
            let (content, behind) = left.split_at_checked(length)?;
            match gap {
                Gap::Count => drop(count(content)?),
                Gap::Gseq => gseq = Some(count(content)?),
                Gap::Tag => is_tag(content).then_some(())?,
                Gap::Id => is_id(content).then_some(())?,
                Gap::Time => at_us = Some(self.time(content)?),
            }
            left = behind;
        }
        if left != self.rest.as_slice() {
            return None;
        }
        Some(Cast { gseq: gseq?, at_us: at_us? })
    }

    /// A time of the same day.
    fn time(&self, content: &[u8]) -> Option<i64> {
        let of_day = content.strip_prefix(&self.day)?;
        let [b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.', fraction @ .., b'Z'] = of_day else { return None };
        let two = |high: u8, low: u8, below: i64| {
            let value = digit(high)? * 10 + digit(low)?;
            (value < below).then_some(value)
        };
        let seconds = (two(*h1, *h2, 24)? * 60 + two(*m1, *m2, 60)?) * 60 + two(*s1, *s2, 60)?;
        if fraction.len() != 6 {
            return None;
        }
        let micros = fraction.iter().try_fold(0, |value, byte| Some(value * 10 + digit(*byte)?))?;
        Some(self.day_us + seconds * 1_000_000 + micros)
    }
}

impl Gap {
    /// How long its content is.
    fn length(self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Count | Self::Gseq => text.iter().position(|byte| !byte.is_ascii_digit()),
            Self::Tag => Some(43),
            Self::Id => Some(36),
            Self::Time => Some(TIME_BYTES),
        }
    }
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

/// A plain integer within 2^53 - 1.
fn count(digits: &[u8]) -> Option<u64> {
    // Sixteen digits stay far below 2^64.
    if !matches!(digits.len(), 1..=16) || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    let value = digits.iter().try_fold(0, |value, byte| Some(value * 10 + u64::try_from(digit(*byte)?).ok()?));
    value.filter(|value| *value < 1 << 53)
}

/// 32 bytes in base64url without padding: the last character holds four bits.
fn is_tag(content: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    content.iter().all(known) && content.last().is_some_and(|last| b"AEIMQUYcgkosw048".contains(last))
}

/// A UUID with hyphens, in lower case.
fn is_id(content: &[u8]) -> bool {
    content.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    })
}

/// Reads a line in full, and says which mould it makes.
///
/// # Errors
/// As for [`parse`].
pub fn parse_and_mould(line: &[u8]) -> Result<(Parsed, Option<Mould>), crate::NotALeaf> {
    let parsed = parse(line)?;
    let mould = Mould::of(line, &parsed);
    Ok((parsed, mould))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = concat!(
        r#"{"act":"key:checkout","bytes":96,"dst":"eu-central","#,
        r#""ev":[["existing_pin","eu-central",100,"directory"],["geoip","US",20,"connection"]],"#,
        r#""geo":"2026-06-01","gseq":43,"gw":"eu-gw-1/00007f3a","home":"eu-central","#,
        r#""id":"01936f3e-8f4c-7bbd-a1b0-9d5c1f0a2b3c","k":"decision.read","op":"record.read","out":"allow","#,
        r#""pol":["abababababababababababababababababababababababababababababababab","existing-pin"],"res":"profile","#,
        r#""rows":1,"sub":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","ts":"2026-11-22T20:42:36.000042Z","#,
        r#""v":1,"via":"ap-south","win":0}"#,
    );

    fn mould() -> Mould {
        parse_and_mould(LINE.as_bytes()).expect("a leaf").1.expect("a mould")
    }

    /// The promise: a line that fits is a leaf, and says in the gaps what reading it in full says.
    fn holds(line: &[u8]) -> bool {
        match mould().cast(line) {
            None => false,
            Some(cast) => {
                let parsed = parse(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)));
                assert_eq!((parsed.gseq, parsed.decision.at_us), (cast.gseq, cast.at_us));
                true
            }
        }
    }

    #[test]
    fn a_line_that_differs_in_its_numbers_fits_and_no_other_does() {
        for (from, to, fits) in [
            ("\"gseq\":43", "\"gseq\":9007199254740991", true),
            ("\"gseq\":43", "\"gseq\":9007199254740992", false),
            ("\"gseq\":43", "\"gseq\":18446744073709551616", false),
            ("\"gseq\":43", "\"gseq\":0", true),
            ("\"gseq\":43", "\"gseq\":043", false),
            ("\"gseq\":43", "\"gseq\":-1", false),
            ("\"gseq\":43", "\"gseq\":", false),
            ("\"bytes\":96", "\"bytes\":1.0", false),
            ("36.000042Z", "59.999999Z", true),
            ("36.000042Z", "60.000042Z", false),
            ("20:42:36", "24:00:00", false),
            ("36.000042Z", "36.00004Z", false),
            ("2026-11-22T", "2026-11-23T", false),
            ("2b3c", "2b3d", true),
            ("2b3c", "2B3C", false),
            ("wc\",\"ts\"", "wd\",\"ts\"", false),
            ("BwcH", "-_cH", true),
            ("\"allow\"", "\"error\"", false),
            ("key:checkout", "key:checkouu", false),
            ("\"win\":0}", "\"win\":0} ", false),
            ("\"win\":0}", "\"win\":1}", false),
        ] {
            assert!(LINE.contains(from), "{from}");
            assert_eq!(holds(LINE.replacen(from, to, 1).as_bytes()), fits, "{from} -> {to}");
        }
    }

    #[test]
    fn a_denial_and_a_text_that_looks_like_a_gap_make_no_wrong_mould() {
        let denied = LINE.replace("\"dst\":\"eu-central\",", "").replace("\"allow\"", "\"deny\"");
        let denied = denied.replace("\"win\":0", "\"why\":\"subject_moving\",\"win\":0");
        assert!(parse_and_mould(denied.as_bytes()).expect("a leaf").1.is_none());
        let tricky = LINE.replace("key:checkout", r#"key:,\"gseq\":7,\"bytes\":8"#);
        let (parsed, made) = parse_and_mould(tricky.as_bytes()).expect("a leaf");
        assert_eq!(made.expect("a mould").cast(tricky.as_bytes()).map(|cast| cast.gseq), Some(parsed.gseq));
    }

    proptest! {
        #[test]
        fn whatever_fits_is_a_leaf(at in 0..LINE.len(), byte in 0x20_u8..0x7f, more in 0..LINE.len(), other in b'0'..=b'9') {
            let mut line = LINE.as_bytes().to_vec();
            line[at] = byte;
            holds(&line);
            line[more] = other;
            holds(&line);
            line.remove(at);
            holds(&line);
        }
    }
}
