//! What Ocelli nodes see. The exact-integer networks come with the node.
