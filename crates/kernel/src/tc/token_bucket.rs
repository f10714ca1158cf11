use super::{ROOT, header};
use crate::netlink::uapi::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, RTM_NEWQDISC, TCA_KIND, TCA_OPTIONS, TCA_TBF_BURST, TCA_TBF_PARMS,
    TCA_TBF_RATE64,
};
use crate::netlink::{Attributes, Batch};

const HANDLE: u32 = 0x0001_0000;
/// `TC_LINKLAYER_ETHERNET`: the kernel needs no rate table then.
const ETHERNET: u8 = 1;
/// The unit in which the kernel tells times (`PSCHED_SHIFT`), in nanoseconds.
const TICK: u128 = 64;
const SECOND: u128 = 1_000_000_000;

/// A token bucket filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may leave at once. Of one that is there: nearly, for the kernel keeps the time that they take, and
    /// tells 274 s of it at most.
    pub burst: u32,
    /// Bytes that may wait; what comes on top is dropped.
    pub limit: u32,
}

impl TokenBucket {
    /// `struct tc_tbf_qopt`: two rate specifications, limit, buffer, mtu. The burst goes beside it, in bytes: as a time
    /// of this structure it would lose up to a microsecond, which is a packet on a fast link.
    fn parameters(self) -> [u8; 36] {
        let mut bytes = [0; 36];
        bytes[1] = ETHERNET;
        bytes[8..12].copy_from_slice(&u32::try_from(self.rate).unwrap_or(u32::MAX).to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        bytes
    }

    /// Reads the options of a "tbf".
    pub(super) fn read(options: Attributes<'_>) -> Option<Self> {
        let parameters = options.find(TCA_TBF_PARMS)?.value;
        let number = |at: usize| Some(u32::from_ne_bytes(*parameters.get(at..)?.first_chunk()?));
        let wide = options.find(TCA_TBF_RATE64).and_then(|a| a.value.first_chunk().copied());
        let rate = wide.map_or(u64::from(number(8)?), u64::from_ne_bytes);
        let bytes = u128::from(number(28)?) * TICK * u128::from(rate);
        // What the kernel rounded down to a tick belongs to the byte above.
        let burst = u32::try_from(bytes.div_ceil(SECOND)).unwrap_or(u32::MAX);
        Some(Self { rate, burst, limit: number(24)? })
    }

    /// Whether `there`, as the kernel tells it, is what came of this one. A burst that takes longer than the kernel can
    /// tell counts as the same.
    pub fn fits(self, there: Self) -> bool {
        let ticks = |burst: u32| u128::from(burst) * SECOND / u128::from(self.rate.max(1)) / TICK;
        let untold = ticks(self.burst) > u128::from(u32::MAX);
        let tick = TICK * u128::from(self.rate) / SECOND;
        let near = u128::from(self.burst.abs_diff(there.burst)) <= 1 + tick + u128::from(self.burst >> 20);
        self.rate == there.rate && self.limit == there.limit && (untold || near)
    }
}

impl Batch {
    /// Limits what leaves by a link. A root discipline of somebody's making is an error (EEXIST).
    pub fn add_token_bucket(&mut self, link: u32, bucket: TokenBucket) {
        let object = format!("token bucket on link number {link}");
        let header = header(link, HANDLE, ROOT, 0);
        let mut m = self.message(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, "add", object);
        m.text(TCA_KIND, "tbf").nest(TCA_OPTIONS, |options| {
            options.bytes(TCA_TBF_PARMS, &bucket.parameters()).u32(TCA_TBF_BURST, bucket.burst);
            if u32::try_from(bucket.rate).is_err() {
                options.u64(TCA_TBF_RATE64, bucket.rate);
            }
        });
    }
}
