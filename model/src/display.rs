//! What a model file shows to people. It is never executed, and decides nothing that nodes have to agree on.

use serde::Serialize;

use crate::json::{self, JsonError, quote};

/// The longest model name, in bytes.
pub const MAX_MODEL_NAME: usize = 64;
/// The longest class name, in bytes.
pub const MAX_CLASS_NAME: usize = 100;
/// The longest card, in bytes.
pub const MAX_CARD: usize = 64 << 10;

/// What is shown to people and never executed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Display {
    /// The model's name, 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, or empty.
    pub name: String,
    /// A name for each logit, 1 to 100 bytes, without control characters.
    pub classes: Vec<String>,
    /// What a logit is multiplied by before the softmax; finite and greater than 0.
    pub scale: f64,
    /// A description, at most 64 KiB; of control characters only line feeds.
    pub card: String,
}

/// A display that is not allowed in a file that we write, or that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisplayError {
    /// The text is not the expected JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The number of class names is not that of the logits.
    #[error("display: {found} class names for {expected} logits")]
    ClassCount {
        /// Logits.
        expected: usize,
        /// Names.
        found: usize,
    },
    /// The display name is too long or of other characters.
    #[error("display: the name {name:?} is not at most {MAX_MODEL_NAME} of a-z, 0-9, '.', '_' and '-'")]
    Name { name: String },
    /// A class name is empty, too long, or holds a control character.
    #[error("display: the class name {name:?} is not 1 to {MAX_CLASS_NAME} bytes without control characters")]
    ClassName { name: String },
    /// The scale is not a finite number above 0.
    #[error("display: the scale is not a finite number above 0")]
    Scale,
    /// The card is too long or holds a control character.
    #[error("display: the card is not at most {MAX_CARD} bytes without control characters but line feeds")]
    Card,
}

impl Display {
    /// What a file without `display` shows: no name, classes by number, a scale of 1.
    pub fn numbered(classes: usize) -> Self {
        let classes = (0..classes).map(|class| class.to_string()).collect();
        Self { name: String::new(), classes, scale: 1.0, card: String::new() }
    }

    /// Reads the display of a model of so many logits.
    pub(crate) fn from_json(text: &str, logits: usize) -> Result<Self, DisplayError> {
        let mut fields = json::parse("display", text.as_bytes())?.object("display")?;
        let name = fields.text("name")?;
        let classes = fields.take("classes")?.list("display.classes")?;
        let classes = classes.into_iter().map(|class| class.text("display.classes")).collect::<Result<_, _>>()?;
        let scale = fields.take("scale")?.number("display.scale")?;
        let card = fields.text("card")?;
        fields.finish()?;
        let display = Self { name, classes, scale, card };
        display.check(logits)?;
        Ok(display)
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("the scale is finite and all else is text")
    }

    pub(crate) fn check(&self, logits: usize) -> Result<(), DisplayError> {
        let Self { name, classes, scale, card } = self;
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if name.len() > MAX_MODEL_NAME || !name.bytes().all(allowed) {
            return Err(DisplayError::Name { name: quote(name) });
        }
        if classes.len() != logits {
            return Err(DisplayError::ClassCount { expected: logits, found: classes.len() });
        }
        for class in classes {
            if class.is_empty() || class.len() > MAX_CLASS_NAME || class.chars().any(char::is_control) {
                return Err(DisplayError::ClassName { name: quote(class) });
            }
        }
        if !scale.is_finite() || *scale <= 0.0 {
            return Err(DisplayError::Scale);
        }
        if card.len() > MAX_CARD || card.chars().any(|c| c.is_control() && c != '\n') {
            return Err(DisplayError::Card);
        }
        Ok(())
    }
}
