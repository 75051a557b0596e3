//! Real nodes over real sockets on the loopback interface, with real stores: what a network must withstand.

mod nodes {
    mod bad_blocks;
    mod crash;
    mod device;
    mod harness;
    mod partition;
    mod peers;
    mod pruning;
    mod sync;
}
