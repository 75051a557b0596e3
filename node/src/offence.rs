//! What the protocol's machines find, as the network's table of penalties names it.

use ocelli_protocol::Offence;

use crate::network::Misbehaviour;

pub fn misbehaviour(offence: Offence) -> Misbehaviour {
    match offence {
        Offence::WrongNetwork => Misbehaviour::OtherNetwork,
        Offence::WrongResponse
        | Offence::TooManyHeaders { .. }
        | Offence::UnlinkedHeaders
        | Offence::InvalidHeader
        | Offence::TooManyBlocks { .. }
        | Offence::NoBlocks
        | Offence::NoWork
        | Offence::BodyRoot => Misbehaviour::BrokenRule,
        Offence::WrongTransaction | Offence::WrongAttachment | Offence::WrongFile => Misbehaviour::NotTheBlock,
        Offence::UnconnectedHeaders | Offence::UnprovenWork => Misbehaviour::UselessHeaders,
        Offence::BrokenTransaction => Misbehaviour::BadTransaction,
        Offence::Stalled => Misbehaviour::Stalled,
        Offence::Unserved => Misbehaviour::Unserved,
    }
}
