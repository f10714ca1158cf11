//! Answers of the query protocol. Elements are found by name; what is missing is empty, as services leave out what they like.

use roxmltree::{Document, Node, ParsingOptions};

/// So many nodes has no answer that is one.
const MOST: u32 = 2_000_000;

/// An element, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a>(Option<Node<'a, 'a>>);

impl<'a> Element<'a> {
    /// The first child of this name.
    pub(crate) fn child(self, name: &str) -> Self {
        Self(self.0.and_then(|node| node.children().find(|child| child.tag_name().name() == name)))
    }

    /// Whether it is there.
    pub(crate) fn is_there(self) -> bool {
        self.0.is_some()
    }

    /// Its text; empty where it is not there.
    pub(crate) fn value(self) -> &'a str {
        self.0.and_then(|node| node.text()).unwrap_or_default().trim()
    }

    /// The text of the first child of this name.
    pub(crate) fn text(self, name: &str) -> String {
        self.child(name).value().to_owned()
    }

    /// The same as a number, where it is one.
    pub(crate) fn number<T: std::str::FromStr>(self, name: &str) -> Option<T> {
        self.child(name).value().parse().ok()
    }

    /// The entries of the list that the child of this name is: EC2 calls them `item`, others `member`.
    pub(crate) fn list(self, name: &str) -> impl Iterator<Item = Self> + use<'a> {
        let entries = self.child(name).0.into_iter().flat_map(|node| node.children());
        entries
            .filter(|child| matches!(child.tag_name().name(), "item" | "member"))
            .map(|node| Self(Some(node)))
    }
}

/// Reads an answer, and what `read` finds in its outermost element.
///
/// # Errors
/// It is no XML, or has a document type.
pub(crate) fn read<T>(text: &str, read: impl FnOnce(Element<'_>) -> T) -> Result<T, String> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MOST, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|e| e.to_string().chars().take(256).collect::<String>())?;
    Ok(read(Element(Some(document.root_element()))))
}

/// What a service says of a call that it refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// Reads a refusal, as EC2 writes them (`Response/Errors/Error`) and as others do (`ErrorResponse/Error`).
pub(crate) fn refusal(text: &str) -> Option<Refusal> {
    let found = read(text, |root| {
        let error = match root.child("Errors").child("Error") {
            error if error.is_there() => error,
            _ => root.child("Error"),
        };
        Refusal { code: error.text("Code"), message: error.text("Message") }
    });
    found.ok().filter(|refusal| !refusal.code.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_empty() {
        let text = "<?xml version=\"1.0\"?><A xmlns=\"x\"><s><item><n> 7 </n></item><x/><item/></s><m><member>q</member></m></A>";
        read(text, |root| {
            let numbers: Vec<Option<u16>> = root.list("s").map(|item| item.number("n")).collect();
            assert_eq!(numbers, [Some(7), None]);
            assert_eq!(root.list("m").map(Element::value).collect::<Vec<_>>(), ["q"]);
            assert_eq!((root.text("none"), root.child("none").child("n").is_there()), (String::new(), false));
        })
        .unwrap();
    }

    #[test]
    fn refusals_of_both_kinds() {
        let ec2 = "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>no &lt;i-1&gt;</Message></Error>\
                   </Errors><RequestID>1</RequestID></Response>";
        let found = refusal(ec2).unwrap();
        assert_eq!((found.code.as_str(), found.message.as_str()), ("InvalidInstanceID.NotFound", "no <i-1>"));
        let other = "<ErrorResponse xmlns=\"y\"><Error><Type>Sender</Type><Code>Throttling</Code></Error></ErrorResponse>";
        assert_eq!(refusal(other).unwrap(), Refusal { code: "Throttling".into(), message: String::new() });
        assert_eq!(refusal("<html><body>Bad gateway</body></html>"), None);
        assert_eq!(refusal("{}"), None);
    }

    #[test]
    fn a_document_type_is_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>";
        assert!(read(bomb, |_| ()).is_err());
    }
}
