//! What engines and programs say, made fit for a terminal, a comment and a report.

/// The text with at most `most` characters and without control characters other than line ends and tabs: those are
/// written as `\u{1b}`. What is left out is said.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut characters = text.char_indices();
    for (_, character) in characters.by_ref().take(most) {
        match character {
            '\n' | '\t' => out.push(character),
            _ if character.is_control() || is_format(character) => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    if let Some((at, _)) = characters.next() {
        out.push_str(&format!(" … and {} bytes more", text.len() - at));
    }
    out
}

/// The text with `#` for each number.
pub(crate) fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            _ => out.push(character),
        }
    }
    out
}

/// Characters that reorder or hide the text around them.
fn is_format(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(
            clean("a\u{1b}[31m\r\0\u{7f}\u{9b}b\n\tc", 100),
            "a\\u{1b}[31m\\u{d}\\u{0}\\u{7f}\\u{9b}b\n\tc"
        );
        assert_eq!(clean("left\u{202e}right", 100), "left\\u{202e}right");
    }

    #[test]
    fn what_is_left_out_is_said() {
        assert_eq!(clean("äbcd", 4), "äbcd");
        assert_eq!(clean("äbcd", 2), "äb … and 2 bytes more");
    }
}
