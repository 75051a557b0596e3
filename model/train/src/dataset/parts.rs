//! Parts of a data set: the folders above the class folders that say what pictures are for.

use std::collections::{BTreeMap, BTreeSet};

use icu_normalizer::ComposingNormalizerBorrowed;

/// Names of the part that is trained on, the first that is there.
pub const TRAIN: [&str; 2] = ["train", "training"];
/// Names of the part that is evaluated on, the first that is there, before those of [`VALIDATION`].
pub const TEST: [&str; 4] = ["test", "testing", "eval", "evaluation"];
/// Names of the part that is evaluated on where there is no other.
pub const VALIDATION: [&str; 4] = ["val", "valid", "validation", "dev"];
/// How many folders a note names.
const MAX_NAMED: usize = 5;

/// Which part of a data set is wanted, where it has a folder for each; where it has only one of them, or none, its
/// pictures are taken all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is trained on: [`TRAIN`].
    Train,
    /// What is evaluated on: [`TEST`], or else [`VALIDATION`].
    Test,
}

impl Part {
    /// The names of the part, the preferred ones first.
    fn names(self) -> impl Iterator<Item = &'static str> {
        let (first, second) = match self {
            Self::Train => (&TRAIN[..], &[][..]),
            Self::Test => (&TEST[..], &VALIDATION[..]),
        };
        first.iter().chain(second).copied()
    }

    /// The part that a folder's name says, in lower case.
    fn of_folder(name: &str) -> Option<&'static str> {
        let name = name.to_lowercase();
        TRAIN.iter().chain(&TEST).chain(&VALIDATION).find(|part| **part == name).copied()
    }

    /// The one of the parts of a data set that is wanted; none if it has no parts.
    pub fn choose(self, found: &BTreeSet<&'static str>) -> Result<Option<&'static str>, PartsError> {
        match self.names().find(|name| found.contains(name)) {
            Some(name) => Ok(Some(name)),
            None if found.len() <= 1 => Ok(found.first().copied()),
            None => Err(PartsError {
                found: found.iter().copied().collect::<Vec<_>>().join(", "),
                expected: self.names().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// Parts of which none is the one that is wanted.
pub struct PartsError {
    /// The parts that are there.
    pub found: String,
    /// The names that the wanted one may have.
    pub expected: String,
}

/// The folders of a file's path, taken apart.
pub struct Place {
    /// The part that the innermost folder named so says.
    pub part: Option<&'static str>,
    /// The folders above the class folder that are no parts, for people.
    pub group: String,
    /// The class as the folder is written, and in the composed form.
    pub written: String,
    pub class: String,
}

impl Place {
    /// The place of what is in some folders.
    ///
    /// # Errors
    /// Why there is no class.
    pub fn of(folders: &[String]) -> Result<Self, String> {
        let [above @ .., written] = folders else { return Err("it is in no class folder".into()) };
        if let Some(part) = Part::of_folder(written) {
            return Err(format!("it is in no class folder: {part} is a part, not a class"));
        }
        let part = above.iter().rev().find_map(|folder| Part::of_folder(folder));
        let group: Vec<&str> =
            above.iter().filter(|folder| Part::of_folder(folder).is_none()).map(String::as_str).collect();
        Ok(Self { part, group: group.join("/"), written: written.clone(), class: composed(written) })
    }
}

/// What a person should know of the choice of a part; `groups` are the numbers of pictures by part and by the folders above
/// their class folder.
pub fn notes(
    part: Part,
    parts: &BTreeSet<&'static str>,
    chosen: Option<&'static str>,
    groups: &BTreeMap<(Option<&'static str>, String), usize>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let known = || TRAIN.iter().chain(&TEST).chain(&VALIDATION).copied().collect::<Vec<_>>().join(", ");
    if let Some(chosen) = chosen
        && (parts.len() > 1 || part.names().all(|name| name != chosen))
    {
        let others: Vec<_> = parts.iter().copied().filter(|part| *part != chosen).collect();
        let others = if others.is_empty() { "there is no other".into() } else { format!("not {}", others.join(", ")) };
        notes.push(format!("the part {chosen} is taken, {others}"));
    }
    let unused: Vec<_> = groups.iter().filter(|((part, _), _)| chosen.is_some() && part.is_none()).collect();
    if !unused.is_empty() {
        let files: usize = unused.iter().map(|(_, files)| **files).sum();
        let folders = named(unused.iter().map(|((_, group), _)| group.as_str()));
        notes.push(format!(
            "{files} file{} in {folders} belong to no part and are not used; the names of parts are {}",
            plural(files),
            known()
        ));
    }
    let together: Vec<_> = groups.keys().filter(|(part, _)| *part == chosen).collect();
    if together.len() > 1 {
        let folders = named(together.iter().map(|(_, group)| group.as_str()));
        notes.push(format!(
            "the class folders in {folders} are taken together, as these are not names of parts, which are {}",
            known()
        ));
    }
    notes
}

/// The ending of a plural.
pub fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Folders by name, the first few of them.
fn named<'a>(folders: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = folders.len().saturating_sub(MAX_NAMED);
    let mut names: Vec<String> = folders
        .take(MAX_NAMED)
        .map(|name| if name.is_empty() { "the top folder".into() } else { format!("{name}/") })
        .collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// A name in Unicode's composed form, in which names of classes are compared and written.
pub fn composed(name: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc().normalize(name).into_owned()
}
