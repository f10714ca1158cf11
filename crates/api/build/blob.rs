//! The arena as bytes, for `schema::builtin`, whose `Reader` is the other half of this file.

use crate::nodes::{Arena, Node};
use std::collections::HashMap;

#[derive(Default)]
struct Writer {
    texts: Vec<String>,
    at: HashMap<String, u64>,
    bytes: Vec<u8>,
}

pub(crate) fn encode(arena: &Arena) -> Vec<u8> {
    let mut body = Writer::default();
    body.number(arena.members.len() as u64);
    for members in &arena.members {
        body.number(members.fields.len() as u64);
        for (name, node) in &members.fields {
            body.text(name);
            body.number(u64::from(*node));
        }
        body.list(&members.required);
    }
    body.number(arena.nodes.len() as u64);
    for node in &arena.nodes {
        body.node(node);
    }
    body.number(arena.roots.len() as u64);
    for (name, node) in &arena.roots {
        body.text(name);
        body.number(u64::from(*node));
    }

    // The texts come first: a number of them, their lengths, their bytes.
    let mut head = Writer::default();
    head.number(body.texts.len() as u64);
    for text in &body.texts {
        head.number(text.len() as u64);
    }
    let mut out = head.bytes;
    body.texts.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
    out.extend_from_slice(&body.bytes);
    out
}

impl Writer {
    fn node(&mut self, node: &Node) {
        self.bytes.extend_from_slice(&[node.shape, node.flags, node.presence]);
        self.number(node.members.map_or(0, |members| u64::from(members) + 1));
        self.number(node.items.map_or(0, |items| u64::from(items) + 1));
        self.list(&node.keys);
        for text in [&node.merge_key, &node.default, &node.name, &node.go, &node.within] {
            match text {
                Some(text) => {
                    self.bytes.push(1);
                    self.text(text);
                }
                None => self.bytes.push(0),
            }
        }
    }

    fn list(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.text(text));
    }

    fn text(&mut self, text: &str) {
        let next = self.texts.len() as u64;
        let at = *self.at.entry(text.to_owned()).or_insert(next);
        if at == next {
            self.texts.push(text.to_owned());
        }
        self.number(at);
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(u8::try_from(number & 0x7f).expect("seven bits fit") | 0x80);
            number >>= 7;
        }
        self.bytes.push(u8::try_from(number).expect("seven bits fit"));
    }
}
