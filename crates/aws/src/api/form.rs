//! Parameters of the query protocol: forms, in which lists are numbered names.

/// A call's parameters, in the order in which they were named. Some are secrets, so they are not shown.
#[derive(Clone, Default)]
pub(crate) struct Form(Vec<(String, String)>, bool);

impl Form {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The call is not tried again where its answer was lost: whoever makes it looks what has come of it.
    pub(crate) fn once(mut self) -> Self {
        self.1 = true;
        self
    }

    /// Whether it is not tried again where its answer was lost.
    pub(crate) fn is_once(&self) -> bool {
        self.1
    }

    pub(crate) fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// `NAME.1`, `NAME.2` and so on.
    pub(crate) fn list(mut self, name: &str, values: impl IntoIterator<Item = impl ToString>) -> Self {
        for (at, value) in values.into_iter().enumerate() {
            self.0.push((format!("{name}.{}", at + 1), value.to_string()));
        }
        self
    }

    /// One of EC2's filters.
    pub(crate) fn filter(
        self,
        number: usize,
        name: &str,
        values: impl IntoIterator<Item = impl ToString>,
    ) -> Self {
        self.with(format!("Filter.{number}.Name"), name).list(&format!("Filter.{number}.Value"), values)
    }

    /// `PREFIX.1.Key`, `PREFIX.1.Value` and so on.
    pub(crate) fn tags<'a>(
        mut self,
        prefix: &str,
        tags: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        for (at, (key, value)) in tags.into_iter().enumerate() {
            self.0.push((format!("{prefix}.{}.Key", at + 1), key.clone()));
            self.0.push((format!("{prefix}.{}.Value", at + 1), value.clone()));
        }
        self
    }

    /// As it is sent.
    pub(crate) fn encoded(&self, action: &str, version: &str) -> String {
        let mut text = format!("Action={action}&Version={version}");
        for (name, value) in &self.0 {
            text.push('&');
            escape(name, &mut text);
            text.push('=');
            escape(value, &mut text);
        }
        text
    }
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => into.push(byte.into()),
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_escaped_and_numbered() {
        let form = Form::new()
            .with("Name", "a b&c=ü")
            .list("Names.member", ["x", "y"])
            .filter(1, "vpc-id", ["vpc-1"])
            .tags("Tags.member", [(&"k/1".to_owned(), &"v".to_owned())]);
        assert_eq!(
            form.encoded("Do", "2016-11-15"),
            "Action=Do&Version=2016-11-15&Name=a%20b%26c%3D%C3%BC&Names.member.1=x&Names.member.2=y\
             &Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1&Tags.member.1.Key=k%2F1&Tags.member.1.Value=v"
        );
    }
}
