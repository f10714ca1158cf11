use super::{INGRESS_HANDLE, header};
use crate::Result;
use crate::netlink::uapi::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, RTM_GETTFILTER, RTM_NEWTFILTER, TCA_ACT_KIND,
    TCA_ACT_OPTIONS, TCA_KIND, TCA_MIRRED_PARMS, TCA_OPTIONS, TCA_U32_ACT, TCA_U32_CLASSID, TCA_U32_SEL,
};
use crate::netlink::{Attributes, Batch, Received, Socket};

/// Priority 1 in the upper half, `ETH_P_ALL` in network order in the lower.
const FIRST_OF_ALL_PROTOCOLS: u32 = 1 << 16 | 0x0003_u16.to_be() as u32;
const CLASS: u32 = 0x0001_0001;
const TC_U32_TERMINAL: u8 = 1;
/// `TC_ACT_STOLEN`: the packet goes on elsewhere.
const STOLEN: i32 = 4;
/// `TCA_EGRESS_REDIR`.
const REDIRECT_TO_EGRESS: i32 = 1;

/// `struct tc_u32_sel` with one `struct tc_u32_key` that compares no bit.
fn every_packet() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = TC_U32_TERMINAL;
    bytes[2] = 1;
    bytes
}

/// `struct tc_mirred`: index, capabilities, action, two counts, what is done, link.
fn mirred(to: u32) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[8..12].copy_from_slice(&STOLEN.to_ne_bytes());
    bytes[20..24].copy_from_slice(&REDIRECT_TO_EGRESS.to_ne_bytes());
    bytes[24..28].copy_from_slice(&to.to_ne_bytes());
    bytes
}

impl Batch {
    /// Sends all that comes in by `link`, whose ingress is open, out by the link with index `to`: an IFB, which hands it
    /// back once it has passed the disciplines there. Any kernel with traffic control has the filter (u32) for it; the
    /// shorter "matchall" is not always built.
    pub fn redirect_ingress(&mut self, link: u32, to: u32) {
        let object = format!("redirection of link number {link} to link number {to}");
        let header = header(link, 0, INGRESS_HANDLE, FIRST_OF_ALL_PROTOCOLS);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut m = self.message(RTM_NEWTFILTER, flags, &header, "add", object);
        m.text(TCA_KIND, "u32").nest(TCA_OPTIONS, |options| {
            options.u32(TCA_U32_CLASSID, CLASS).bytes(TCA_U32_SEL, &every_packet());
            options.nest(TCA_U32_ACT, |actions| {
                actions.nest(1, |action| {
                    action.text(TCA_ACT_KIND, "mirred");
                    action.nest(TCA_ACT_OPTIONS, |options| {
                        options.bytes(TCA_MIRRED_PARMS, &mirred(to));
                    });
                });
            });
        });
    }
}

/// The links that what comes in by `link` is redirected to.
pub fn redirections(socket: &mut Socket, link: u32) -> Result<Vec<u32>> {
    let mut batch = Batch::new();
    let object = format!("filters of link number {link}");
    batch.message(RTM_GETTFILTER, NLM_F_DUMP, &header(link, 0, INGRESS_HANDLE, 0), "list", object);
    socket.dump(&batch, redirection)
}

/// Where a filter (`RTM_NEWTFILTER`) redirects to; none if it does something else.
pub fn redirection(message: Received<'_>) -> Option<u32> {
    if message.kind != RTM_NEWTFILTER {
        return None;
    }
    let filter = Attributes::after(message.body, 20);
    let u32_options =
        filter.find(TCA_OPTIONS).filter(|_| filter.find(TCA_KIND).is_some_and(|a| a.text() == "u32"))?;
    let mut actions = u32_options.nested().find(TCA_U32_ACT)?.nested();
    actions.find_map(|action| {
        let action = action.nested();
        let options = action
            .find(TCA_ACT_OPTIONS)
            .filter(|_| action.find(TCA_ACT_KIND).is_some_and(|a| a.text() == "mirred"))?;
        let parameters = options.nested().find(TCA_MIRRED_PARMS)?.value;
        let number = |at: usize| Some(u32::from_ne_bytes(*parameters.get(at..)?.first_chunk()?));
        number(24).filter(|_| number(20) == Some(REDIRECT_TO_EGRESS.cast_unsigned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_others_redirect_nowhere() {
        for body in [
            &[][..],
            &[0; 20],
            &[255; 40],
            &[&[0; 20][..], &[8, 0, 1, 0, b'u', b'3', b'2', 0, 4, 0, 2, 0]].concat(),
        ] {
            assert_eq!(
                redirection(Received { kind: RTM_NEWTFILTER, flags: 0, sequence: 0, port: 0, body }),
                None
            );
        }
    }
}
