//! Attachments that are not to be here.

use super::*;

#[test]
fn what_is_forgotten_is_gone_and_not_kept_again() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let (mut blocks, picture) = (Vec::new(), AttachmentHash::of(&[7; PIXELS]));
    for pixels in [[1, 7], [7, 2], [3, 4]] {
        let overlay = Overlay::new(&store).unwrap();
        blocks.push(Maker::new(&network, &overlay).classify(1, pixels[0]).classify(2, pixels[1]).mine(address(0)));
        reorganise(&store, &network, 0, &blocks[blocks.len() - 1..]);
    }
    store.refuse(&picture).unwrap();
    assert_eq!(store.delete_refused(&picture), Ok(2));
    assert_eq!(store.delete_refused(&picture), Ok(0));
    let check = |store: &Store| {
        for (header, body, attachments) in &blocks {
            let found = store.attachments(header.height, &header.hash(), body).unwrap();
            for ((found, given), (transaction, _)) in found.iter().zip(attachments).zip(&body.transactions) {
                let is_it = transaction.attachment().unwrap().hash == picture;
                assert_eq!(found, if is_it { &None } else { given });
            }
        }
        assert_eq!((store.is_forgotten(&picture), store.kept()), (Ok(true), Ok(Kept::ALL)));
        assert_as_from_scratch(store, &network, &blocks);
    };
    check(&store);
    // Not even from who sends the block again, and not after a restart.
    for block in &blocks {
        add(&store, block);
    }
    check(&store);
    drop(store);
    check(&Store::open(&folder.path(), &network).unwrap());
}
