//! What Ocelli nodes say. Wire messages and the sync and mempool machines come with the node.
