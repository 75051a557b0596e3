//! What waits in nodes' mempools, whole.

use std::time::Instant;

use ocelli_consensus::TxId;
use ocelli_consensus::rules::{check_attachment, check_signature};
use ocelli_protocol::message::{Request, Response, ShortId, Submission, TransactionStatus};

use super::chains::unexpected;
use super::lie::Lie;
use super::{ANSWER_TIMEOUT, Client, ClientError, Connection};

impl Client {
    /// A transaction that waits in a node's mempool, with its attachment; `None` if it waits in none.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers that can be believed.
    pub fn pending(&mut self, txid: TxId) -> Result<Option<Submission>, ClientError> {
        self.first_found(|client, node| client.pending_at(node, txid))
    }

    fn pending_at(&mut self, node: &Connection, txid: TxId) -> Result<Option<Submission>, ClientError> {
        let mut ask = |request: &Request| self.ask_until(node, request, Instant::now() + ANSWER_TIMEOUT);
        let wtxid = match ask(&Request::Transaction { txid })? {
            Response::Transaction(TransactionStatus::Pending(wtxid)) => wtxid,
            Response::Transaction(_) => return Ok(None),
            other => return Err(unexpected(node, "Transaction", &other)),
        };
        let ids = vec![ShortId::of(&wtxid)];
        let found = match ask(&Request::Pending { ids: ids.clone() })? {
            Response::Pending(found) => found.into_iter().next().flatten(),
            other => return Err(unexpected(node, "Pending", &other)),
        };
        // It may have come into a block since.
        let Some(mut found) = found else { return Ok(None) };
        if found.transaction.attachment().is_some() && found.attachment.is_none() {
            found.attachment = match ask(&Request::Attachments { ids })? {
                Response::Attachments(found) => found.into_iter().next().flatten(),
                other => return Err(unexpected(node, "Attachments", &other)),
            };
            if found.attachment.is_none() {
                return Ok(None);
            }
        }
        check(self, txid, &found).map_err(|lie| lie.told_by(node))?;
        Ok(Some(found))
    }
}

/// Checks that it is the transaction that was asked for, signed and with its attachment.
fn check(client: &Client, txid: TxId, found: &Submission) -> Result<(), Lie> {
    let transaction = &found.transaction;
    if transaction.txid() != txid {
        return Err(Lie::OtherTransaction { asked: txid, found: transaction.txid() });
    }
    check_signature(transaction, client.network.genesis_hash()).map_err(|_| Lie::Unsigned { txid })?;
    let checked = check_attachment(transaction, found.attachment.as_deref());
    checked.map_err(|source| Lie::PendingAttachment { txid, source })
}
