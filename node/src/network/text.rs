//! Words that peers say.

/// At most `limit` characters of `text`, without control characters: it goes to logs and terminals.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_short_and_printable() {
        assert_eq!(shorten("a\u{1b}[31mb\n", 10), "a[31mb");
        assert_eq!(shorten("äöü", 2), "äö");
    }
}
