//! The name of a jail's outer link, and the hash by which a name becomes a number.

/// The name of a jail's outer link: `kak-JAIL`, with a hash in place of the jail's name where that is too long for a
/// link's name (IFNAMSIZ: 15 bytes).
pub fn link_name(jail: &str) -> String {
    let name = format!("kak-{jail}");
    if name.len() <= 15 {
        return name;
    }
    format!("kak-{:010x}", hash(jail.as_bytes()) >> 24)
}

/// FNV-1a.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit() {
        assert_eq!(link_name("USER"), "kak-USER");
        assert_eq!(link_name("elevenchars"), "kak-elevenchars");
        let long = link_name("a-name-of-more-than-eleven");
        assert!(long.len() <= 15 && long != link_name("a-name-of-more-than-twelve"));
    }
}
