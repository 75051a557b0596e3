//! Models that the network has beside those of its beginning: what nodes say of them, and their files.
//!
//! A file is checked by its id. What stands in a record is the nodes' word: a task that names another royalty than the record's
//! is refused, so that nobody pays more by a lie.

use std::time::Instant;

use ocelli_consensus::object::{MAX_ATTACHMENT_BYTES, MAX_FILE_BYTES, UploadRecord};
use ocelli_consensus::{Address, ModelId};
use ocelli_protocol::message::{MAX_MODELS, NetworkModel, Request, Response};

use super::chains::unexpected;
use super::lie::Lie;
use super::{ANSWER_TIMEOUT, Client, ClientError};

/// Bounds the models that are listed: 6 MB of them.
const MAX_LISTED: usize = 65_536;

impl Client {
    /// The models of the network's state, in the order of their ids, as the first node that answers tells it.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers.
    pub fn models(&mut self) -> Result<Vec<NetworkModel>, ClientError> {
        let mut failure = None;
        for node in self.asked() {
            let (mut models, mut from): (Vec<NetworkModel>, _) = (Vec::new(), ModelId([0; 32]));
            let result = loop {
                let request = Request::Models { from, limit: MAX_MODELS as u32 };
                let page = match self.ask_until(&node, &request, Instant::now() + ANSWER_TIMEOUT) {
                    Ok(Response::Models(page)) => page,
                    Ok(other) => break Err(unexpected(&node, "Models", &other)),
                    Err(error) => break Err(error),
                };
                // One that does not go on in order would never end.
                let ascends = page.iter().zip(page.iter().skip(1)).all(|(one, next)| one.id < next.id);
                let Some(last) = page.last().map(|model| model.id) else { break Ok(models) };
                if !ascends || page.first().is_some_and(|first| first.id < from) {
                    break Err(Lie::Order.told_by(&node));
                }
                let is_full = page.len() >= MAX_MODELS;
                models.extend(page);
                match after(last) {
                    Some(next) if is_full && models.len() < MAX_LISTED => from = next,
                    _ => break Ok(models),
                }
            };
            match result {
                Ok(models) => return Ok(models),
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        Err(failure.unwrap_or_else(|| self.nobody()))
    }

    /// One model of the network's state; `None` if the nodes know of none with this id.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers.
    pub fn model(&mut self, id: ModelId) -> Result<Option<NetworkModel>, ClientError> {
        let request = Request::Models { from: id, limit: 1 };
        self.first_found(|client, node| match client.ask_until(node, &request, Instant::now() + ANSWER_TIMEOUT)? {
            Response::Models(models) => Ok(models.into_iter().next().filter(|model| model.id == id)),
            other => Err(unexpected(node, "Models", &other)),
        })
    }

    /// A model's file, whole from one node and checked by its id; `told` hears of the bytes that are here.
    ///
    /// # Errors
    /// [`ClientError`] when no node has it.
    pub fn model_file(&mut self, id: ModelId, mut told: impl FnMut(usize)) -> Result<Option<Vec<u8>>, ClientError> {
        let (mut is_missing, mut failure) = (false, None);
        for node in self.asked() {
            let mut file = Vec::new();
            let result = loop {
                let chunk = u32::try_from(file.len() / MAX_ATTACHMENT_BYTES).unwrap_or(u32::MAX);
                let request = Request::File { model: id, chunk };
                let bytes = match self.ask_until(&node, &request, Instant::now() + ANSWER_TIMEOUT) {
                    Ok(Response::File(Some(bytes))) => bytes,
                    // Behind a file that ends with a whole chunk there is none.
                    Ok(Response::File(None)) => break Ok(Some(file).filter(|file| !file.is_empty())),
                    Ok(other) => break Err(unexpected(&node, "File", &other)),
                    Err(error) => break Err(error),
                };
                file.extend_from_slice(&bytes);
                told(file.len());
                if bytes.len() != MAX_ATTACHMENT_BYTES || file.len() >= MAX_FILE_BYTES as usize {
                    break Ok(Some(file));
                }
            };
            match result {
                Ok(None) => is_missing = true,
                Ok(Some(file)) => {
                    let found = ModelId::of(&file);
                    if found == id {
                        return Ok(Some(file));
                    }
                    failure = self.judge(&node, Lie::OtherFile { asked: id, found }.told_by(&node)).or(failure);
                }
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if is_missing => Ok(None),
            None => Err(self.nobody()),
        }
    }

    /// The upload that a sender has under way, as the node that has seen most of it tells.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers.
    pub fn upload(&mut self, sender: Address) -> Result<Option<UploadRecord>, ClientError> {
        let (mut uploads, mut failure) = (Vec::new(), None);
        let nodes = self.asked();
        let request = Request::Upload { sender };
        for (node, result) in self.ask_each(&nodes, &request, Instant::now() + ANSWER_TIMEOUT)? {
            match result {
                Ok(Response::Upload(upload)) => uploads.push(upload),
                Ok(other) => failure = self.judge(&node, unexpected(&node, "Upload", &other)).or(failure),
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        if uploads.is_empty() {
            return Err(failure.unwrap_or_else(|| self.nobody()));
        }
        Ok(uploads.into_iter().flatten().max_by_key(|upload| (upload.since, upload.next)))
    }
}

/// The next id in order; `None` behind the last.
fn after(id: ModelId) -> Option<ModelId> {
    let mut next = id;
    for byte in next.0.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_counted_up() {
        let id = |last: [u8; 2]| {
            let mut id = [0; 32];
            id[30..].copy_from_slice(&last);
            ModelId(id)
        };
        assert_eq!(after(id([0, 7])), Some(id([0, 8])));
        assert_eq!(after(id([0, 255])), Some(id([1, 0])));
        assert_eq!(after(ModelId([255; 32])), None);
    }
}
