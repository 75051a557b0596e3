//! Real nodes over real sockets on the loopback interface, with real stores: what a network must withstand.

mod nodes {
    mod bad_blocks;
    #[cfg(unix)]
    mod crash;
    mod device;
    mod harness;
    mod hostile;
    mod partition;
    mod peers;
    mod pruning;
    mod relay;
    mod slow;
    mod sync;
}
