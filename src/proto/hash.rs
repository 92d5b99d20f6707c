//! One good mixer for everything that is placed, filed or summed by hash.

/// The finaliser of MurmurHash3: a bijection in which each bit of the input reaches every bit of the output.
///
/// Cheaper mixings (one multiplication, the avalanche of XXH3 alone) spread sequential inputs unevenly.
pub(crate) const fn fmix64(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}
