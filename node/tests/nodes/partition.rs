//! Miners that are cut off from each other, and meet again.

use ocelli_consensus::{Address, Amount};
use ocelli_protocol::message::{SubmitReply, TransactionStatus};

use super::harness::{Maker, TestNode, easy_network, wait};

#[test]
fn two_miners_cut_off_and_joined_agree_and_lose_no_transaction() {
    let network = easy_network();
    let (alice, bob) = (Address([0xa; 20]), Address([0xb; 20]));
    let mut one = TestNode::start(&network, &[], Some(alice));
    let mut other = TestNode::start(&network, &[], Some(bob));

    // Each side confirms transactions of its own: the same account spends on both, so one side's must come back.
    let maker = Maker::new(&network);
    let shared = [maker.classify(0, 1), maker.transfer(1, Address([5; 20]), Amount(3_000_000))];
    let lonely = maker.transfer(2, Address([6; 20]), Amount(4_000_000));
    for submission in &shared {
        for node in [&one, &other] {
            assert!(matches!(node.submit(submission.clone()), SubmitReply::Accepted { .. }));
        }
    }
    assert!(matches!(other.submit(lonely.clone()), SubmitReply::Accepted { answer: None }));
    let confirmed = |node: &TestNode, txid| matches!(node.transaction(txid), TransactionStatus::Confirmed(_));
    let lost = lonely.transaction.txid();
    wait("each side to confirm its own", || {
        let both = shared.iter().all(|task| [&one, &other].iter().all(|node| confirmed(node, task.transaction.txid())));
        (both && confirmed(&other, lost)).then_some(())
    });
    assert_eq!(one.transaction(lost), TransactionStatus::Unknown);

    // The side without the lonely transfer gets more work; the other stops mining, so that it must give way.
    other.restart(&[], None);
    let weaker = other.status();
    wait("one side to get ahead", || (one.status().tip.height > weaker.tip.height + 3).then_some(()));
    one.restart(&[], None);
    let stronger = one.status();
    other.restart(&[one.address()], None);
    other.wait_for_tip(stronger.tip.hash);

    assert_eq!(other.status().tip.state_root, stronger.tip.state_root);
    assert!(shared.iter().all(|task| confirmed(&other, task.transaction.txid())));
    // Mempools do not outlive a restart of the process, but what a reorganisation takes off comes back.
    assert!(other.is_pending(lost));
    assert_eq!(other.account(bob).balance, Amount(0), "the losing side's rewards are gone");

    // Mined on, it is confirmed again, and everybody has what is due.
    let address = one.address();
    other.restart(&[address], Some(bob));
    let reply = other.submit(lonely);
    assert!(matches!(reply, SubmitReply::Accepted { .. }), "{reply:?}");
    wait("the lonely transfer to be confirmed on both sides", || {
        (confirmed(&other, lost) && confirmed(&one, lost)).then_some(())
    });
    assert_eq!(one.account(Address([6; 20])).balance, Amount(4_000_000));
    assert_eq!(one.account(Address([5; 20])).balance, Amount(3_000_000));
}
