//! What is asked of an account's ledger, on the command line and over HTTP alike.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use ocelli_consensus::Amount;
use ocelli_protocol::ledger::Event;
use serde::Serialize;
use utoipa::ToSchema;

/// Said of accounts where nothing is kept of them.
pub const NO_LEDGER: &str =
    "this node runs with --no-index, and does not keep what has happened to accounts: ask another node";

/// What kind of thing has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EntryKind)]
pub enum Kind {
    /// Mined a block
    Mined,
    /// Royalties of a model
    Royalty,
    /// Received credits
    Received,
    /// Sent credits
    Sent,
    /// Paid for a task
    Task,
    /// Began an upload of a model
    Upload,
    /// Uploaded a part of it
    Part,
    /// Published a model
    Publish,
}

/// Several kinds, as one text with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(pub Vec<Kind>);

/// A time that is asked for: a second, or a day's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// In seconds since 1970.
    begin: u64,
    /// The last second that belongs to it.
    end: u64,
}

/// Which entries of an account are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// In seconds since 1970. From the tip downwards, the first block that is earlier ends the search.
    pub since: u64,
    until: u64,
    /// All of them where this is empty.
    kinds: Vec<Kind>,
}

/// A text that is no kind.
#[derive(Debug, thiserror::Error)]
#[error("found {found:?}, expected one of {}", names())]
pub struct KindError {
    found: String,
}

/// A text that is no time.
#[derive(Debug, thiserror::Error)]
#[error("expected a day, such as 2026-11-30, or a time with its zone, such as 2026-11-30T12:00:00Z")]
pub struct TimeError;

/// Grains with a sign, as credits.
pub struct Signed(pub i128);

impl Kind {
    /// What kind of thing an event is.
    pub fn of(event: &Event) -> Self {
        match event {
            Event::Reward { .. } => Self::Mined,
            Event::Royalty { .. } => Self::Royalty,
            Event::Received { .. } => Self::Received,
            Event::Sent { .. } => Self::Sent,
            Event::Task { .. } => Self::Task,
            Event::Upload { .. } => Self::Upload,
            Event::Part { .. } => Self::Part,
            Event::Publish { .. } => Self::Publish,
        }
    }

    /// As it is asked for and told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mined => "mined",
            Self::Royalty => "royalty",
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Task => "task",
            Self::Upload => "upload",
            Self::Part => "part",
            Self::Publish => "publish",
        }
    }
}

impl FromStr for Kinds {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        let kind = |name: &str| {
            let found = Kind::value_variants().iter().copied().find(|kind| kind.name() == name);
            found.ok_or_else(|| KindError { found: name.chars().take(40).collect() })
        };
        text.split(',').map(kind).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let second = |time: Timestamp| u64::try_from(time.as_second()).map_err(|_| TimeError);
        if let Ok(time) = text.parse::<Timestamp>() {
            let begin = second(time)?;
            return Ok(Self { begin, end: begin });
        }
        let begin_of = |day: Date| {
            let begin = TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).map_err(|_| TimeError)?;
            second(begin)
        };
        // A time of day without a zone would be taken for a day.
        let day: Date = text.parse().ok().filter(|_| !text.contains(['T', 't', ':', ' '])).ok_or(TimeError)?;
        let next = begin_of(day.checked_add(1.day()).map_err(|_| TimeError)?)?;
        Ok(Self { begin: begin_of(day)?, end: next.saturating_sub(1) })
    }
}

impl Filter {
    /// From the beginning of one time to the end of another; of all kinds where none is named.
    pub fn new(since: Option<Time>, until: Option<Time>, kinds: Vec<Kind>) -> Self {
        Self { since: since.map_or(0, |time| time.begin), until: until.map_or(u64::MAX, |time| time.end), kinds }
    }

    /// Whether it wants an event of a block of that time, in seconds since 1970, which is not before `since`.
    pub fn wants(&self, time: u64, event: &Event) -> bool {
        time <= self.until && (self.kinds.is_empty() || self.kinds.contains(&Kind::of(event)))
    }

    /// Whether it wants all that is not before `since`.
    pub fn wants_all(&self) -> bool {
        self.until == u64::MAX && self.kinds.is_empty()
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A sum of two 64-bit amounts, of which no chain has as many.
        let amount = Amount(u64::try_from(self.0.unsigned_abs()).unwrap_or(u64::MAX));
        write!(f, "{}{amount}", if self.0 < 0 { '-' } else { '+' })
    }
}

fn names() -> String {
    Kind::value_variants().iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_have_a_zone() {
        let parse = |text: &str| text.parse::<Time>().ok().map(|time| (time.begin, time.end));
        assert_eq!(parse("1970-01-02"), Some((86_400, 2 * 86_400 - 1)));
        assert_eq!(parse("2026-11-30T12:00:00Z"), Some((1_796_040_000, 1_796_040_000)));
        assert_eq!(parse("2026-11-30T13:00:00+01:00"), Some((1_796_040_000, 1_796_040_000)));
        for text in ["", "yesterday", "2026-11-31", "2026-11-30T12:00:00", "1969-12-31", "7", "9999-12-31T24:00:00Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_kind_has_one_name_wherever_it_is_asked_for_or_told() {
        for kind in Kind::value_variants() {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!("sent,mined".parse::<Kinds>().unwrap(), Kinds(vec![Kind::Sent, Kind::Mined]));
        for (text, found) in [("", ""), ("sent,", ""), ("sent, task", " task"), ("Sent", "Sent")] {
            let error = text.parse::<Kinds>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("found {found:?}, expected one of mined, royalty, ")), "{error}");
        }
    }

    #[test]
    fn times_and_kinds_are_told_apart() {
        let (reward, fees) = (Amount(1), Amount::ZERO);
        let event = Event::Reward { reward, fees };
        let day = "1970-01-02".parse().ok();
        let filter = Filter::new(day, day, vec![Kind::Mined]);
        assert_eq!((filter.since, filter.wants_all()), (86_400, false));
        assert!(filter.wants(2 * 86_400 - 1, &event) && !filter.wants(2 * 86_400, &event));
        assert!(!Filter::new(None, None, vec![Kind::Sent]).wants(0, &event));
        let all = Filter::new(day, None, Vec::new());
        assert!(all.wants_all() && all.wants(u64::MAX, &event));
    }

    #[test]
    fn amounts_have_a_sign() {
        for (grains, text) in [(0, "+0"), (150_000_000, "+1.5"), (-1, "-0.00000001")] {
            assert_eq!(Signed(grains).to_string(), text);
        }
    }
}
