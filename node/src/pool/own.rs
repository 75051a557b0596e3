//! Transactions of wallets that this node spends from: the faucet's, and the one that pays for clients of the API. All are signed on
//! the pool's thread, which knows what is pending, so that no two of them take the same nonce; and in the turn of the key, so that no
//! command of the owner takes it either, between asking for the nonce and handing in.

use std::sync::Arc;

use ocelli_consensus::object::StateReader as _;
use ocelli_consensus::rules::{TransactionError, weight};
use ocelli_consensus::transaction::Unsigned;
use ocelli_consensus::{Action, Address, Amount, Transaction, TxId};
use ocelli_protocol::mempool::{self, AdmitError, MempoolError};
use ocelli_protocol::message::Submission;
use tokio::sync::oneshot;

use super::Pool;
use crate::fee::expiry;
use crate::full_message::full_message;
use crate::keeper;
use crate::store::StoreError;
use crate::turn::{Turn, Turns};
use crate::wallet::Wallet;

/// A wallet that this node spends from, as other programs of its owner may do too.
pub struct Spender {
    pub wallet: Wallet,
    /// Where they take turns.
    pub turns: Turns,
}

impl Spender {
    /// What it spends from.
    pub fn address(&self) -> Address {
        Address::of(&self.wallet.public_key())
    }

    /// The key's turn, to be held until what was signed is in the mempool; `None` while another program has it.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.turns.take(self.address()).unwrap_or_else(|error| {
            tracing::warn!(%error, "other programs that send from a wallet of this node are not kept apart");
            Some(Turn::without_others())
        })
    }
}

/// Writes a transaction of ours and its cost down, before anybody sees it.
pub type Keep = Box<dyn FnOnce(&Transaction, Amount) -> Result<(), StoreError> + Send>;

/// A task that a client of the API has this node pay for.
pub struct Order {
    pub spender: Arc<Spender>,
    pub action: Action,
    pub attachment: Arc<[u8]>,
    /// What fee and royalty may be together.
    pub most: Amount,
    /// Writes down what was signed and what it costs, before anybody else gets to see it.
    pub keep: Keep,
    pub reply: oneshot::Sender<Result<Transaction, OrderError>>,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// What was pending before a restart is not taken up yet, or the chain is far behind: nonce and balance are not known.
    #[error("the node is catching up, and does not know yet what its wallet has")]
    CatchingUp,
    /// Another program is about to send from the wallet.
    #[error("another program sends from the wallet, which has to wait for its turn")]
    NotItsTurn,
    /// The wallet has too little.
    #[error("the task costs {needed} credits, the wallet has {balance}")]
    Balance {
        /// What it has.
        balance: Amount,
        /// Fee and royalty.
        needed: Amount,
    },
    /// It costs more than it may.
    #[error("the task costs {cost} credits, {most} may be spent")]
    TooDear {
        /// Fee and royalty.
        cost: Amount,
        /// What they may be.
        most: Amount,
    },
    /// So many of the wallet's transactions wait for blocks already.
    #[error("{0} transactions of the wallet wait for blocks, and no more may")]
    TooManyPending(usize),
    /// The mempool does not take it.
    #[error("{0}")]
    Refused(String),
    /// It cannot be written down, and so is not sent.
    #[error("the node cannot use its store")]
    Store(#[from] StoreError),
}

/// Who has ordered, and what came of it.
pub(super) type Ordered = (oneshot::Sender<Result<Transaction, OrderError>>, Result<Transaction, OrderError>);

/// What an own wallet is about to sign, and all that it costs.
pub(super) struct Draft {
    unsigned: Unsigned,
    pub(super) cost: Amount,
    /// What the wallet has at the tip.
    pub(super) balance: Amount,
}

impl Pool {
    pub(super) fn on_order(&mut self, order: Order) {
        let Order { spender, action, attachment, most, keep, reply } = order;
        let result = self.sign_and_take(&spender, action, attachment, most, keep);
        // Said when it can be seen by whoever asks next.
        self.due.ordered.push((reply, result));
    }

    fn sign_and_take(
        &mut self,
        spender: &Spender,
        action: Action,
        attachment: Arc<[u8]>,
        most: Amount,
        keep: Keep,
    ) -> Result<Transaction, OrderError> {
        if !self.left_over.is_empty() || self.is_far_behind() {
            return Err(OrderError::CatchingUp);
        }
        let _turn = spender.turn().ok_or(OrderError::NotItsTurn)?;
        let wallet = &spender.wallet;
        let draft = self.draft_own(wallet, action, attachment.len())?;
        let (cost, balance) = (draft.cost, draft.balance);
        if balance < cost {
            return Err(OrderError::Balance { balance, needed: cost });
        }
        if cost > most {
            return Err(OrderError::TooDear { cost, most });
        }
        let transaction = self.sign_own(wallet, draft);
        self.check(&transaction).map_err(|error| match error {
            AdmitError::Refused(MempoolError::Rule(TransactionError::Balance { balance, needed })) => {
                OrderError::Balance { balance, needed }
            }
            AdmitError::Refused(MempoolError::TooManyPending { limit }) => OrderError::TooManyPending(limit),
            AdmitError::Refused(refusal) => OrderError::Refused(full_message(&refusal)),
            AdmitError::Reader(error) => OrderError::Store(error),
        })?;
        let txid = transaction.txid();
        keep(&transaction, cost)?;
        self.others.keeper.send(keeper::Input::Saved(txid));
        let submission = Submission { transaction: transaction.clone(), attachment: Some(attachment) };
        self.take_own(submission).map_err(OrderError::Refused)?;
        tracing::info!(%txid, %cost, "a task for a client of the API");
        Ok(transaction)
    }

    /// An action with the wallet's next nonce and a fee for one of the next blocks.
    pub(super) fn draft_own(&self, wallet: &Wallet, action: Action, attached: usize) -> Result<Draft, StoreError> {
        let public_key = wallet.public_key();
        let sender = Address::of(&public_key);
        let account = self.chain.rows.account(&sender)?.unwrap_or_default();
        let model = action.model().map(|model| self.chain.rows.model(&model)).transpose()?.flatten();
        let (height, parameters) = (self.chain.tip.height, self.others.views.parameters());
        let nonce = self.mempool.next_nonce(sender, account.nonce);
        let unsigned = Unsigned { nonce, fee: Amount::ZERO, expires: expiry(height), action };
        let mut draft = Transaction { unsigned, public_key, signature: [0; 64] };
        let weight = weight(&draft, model.as_ref().map(|record| &record.facts)).unwrap_or(0);
        let rate = self.mempool.rate_within(parameters.weight_limit / 2, mempool::bytes_with(attached));
        draft.unsigned.fee = rate.fee(weight);
        let cost = draft.total(parameters).unwrap_or(Amount(u64::MAX));
        Ok(Draft { unsigned: draft.unsigned, cost, balance: account.balance })
    }

    pub(super) fn sign_own(&self, wallet: &Wallet, draft: Draft) -> Transaction {
        let genesis = self.others.views.genesis;
        Transaction::sign(draft.unsigned, wallet.public_key(), genesis, |hash| wallet.sign(hash))
    }

    /// Takes a transaction of this node's own and passes it on.
    pub(super) fn take_own(&mut self, submission: Submission) -> Result<(), String> {
        let txid: TxId = submission.transaction.txid();
        let inserted = self.take_signed(submission).map_err(|refusal| full_message(&refusal))?;
        self.forward(&[txid]);
        self.forward(&inserted.promoted);
        Ok(())
    }
}
