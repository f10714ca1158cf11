//! Values as they are: bodies of custom resources, whose definition says later what they may be.

use super::scan::{Begin, Scan, number};
use super::typed::Decoder;
use serde_json::{Map, Value};

impl Decoder<'_, '_> {
    /// Reads the next value, and tells fields that are there twice, of which the last one counts.
    pub(super) fn untyped(&mut self) -> Scan<Value> {
        match self.scanner.begin()? {
            Begin::Object => self.untyped_object(),
            Begin::List => {
                let outside = self.errors.place();
                self.scanner.enter()?;
                let mut list = Vec::new();
                while self.scanner.item(list.is_empty())? {
                    self.errors.go_to_item(list.len());
                    list.push(self.untyped()?);
                    self.errors.return_to(outside);
                }
                Ok(Value::Array(list))
            }
            Begin::Number => Ok(number(self.scanner.number()?)),
            _ => self.scanner.any(),
        }
    }

    fn untyped_object(&mut self) -> Scan<Value> {
        let outside = self.errors.place();
        self.scanner.enter()?;
        let mut map = Map::new();
        while let Some(key) = self.scanner.key(map.is_empty())? {
            if outside.is_top() {
                let begin = self.scanner.begin()?;
                self.errors.type_meta(&key, begin, &self.scanner);
            }
            if map.contains_key(&*key) {
                self.errors.duplicate(&key);
            }
            self.errors.go_to_key(key.clone());
            let value = self.untyped()?;
            map.insert(key.into_owned(), value);
            self.errors.return_to(outside);
        }
        Ok(Value::Object(map))
    }
}
