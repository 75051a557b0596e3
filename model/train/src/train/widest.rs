//! Loops over lists of numbers, as fast as the processor can run them.

use pulp::{Arch, NullaryFnOnce};

/// Runs a block as it is compiled for the widest vectors that the processor has. The result is the same to the bit: numbers
/// are added in the same order, and no product is fused with a sum.
///
/// What the block calls must be inlined to be compiled so too; that is sure of loops, and of functions which say so.
macro_rules! widest {
    ($work:block) => {
        $crate::train::widest::dispatch(
            #[inline(always)]
            || $work,
        )
    };
}

pub(super) use widest;

/// Runs a closure that is always inlined. See [`widest!`].
#[inline(always)]
pub(super) fn dispatch<R, F: FnMut() -> R>(work: F) -> R {
    Arch::new().dispatch(Inlined(work))
}

/// A closure whose body is called as it is: `FnOnce` would call it through a function of the compiler's, which is not always
/// inlined, and is compiled for any processor then.
struct Inlined<F>(F);

impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}
