//! A writer of XML elements without attributes, which is all that the query protocol needs.
//!
//! It escapes as SQS does: quotes and carriage returns too, so that a parser gives the text back as it was. A character
//! that XML can't hold becomes U+FFFD.

/// Text in XML, as it grows.
#[derive(Debug, Default)]
pub(crate) struct XmlWriter {
    text: String,
}

/// Returns whether XML 1.0 can hold this character.
pub(crate) fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

impl XmlWriter {
    /// Returns a document that has only its declaration.
    pub(crate) fn document() -> Self {
        Self {
            text: "<?xml version=\"1.0\"?>".to_owned(),
        }
    }

    /// Opens the outermost element, in the namespace of SQS.
    pub(crate) fn open_root(&mut self, name: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text
            .push_str(" xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">");
    }

    /// Opens an element.
    pub(crate) fn open(&mut self, name: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
    }

    /// Closes an element that [`Self::open`] or [`Self::open_root`] opened.
    pub(crate) fn close(&mut self, name: &str) {
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push('>');
    }

    /// Writes an element without content.
    pub(crate) fn empty(&mut self, name: &str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push_str("/>");
    }

    /// Writes an element that holds text.
    pub(crate) fn element(&mut self, name: &str, text: &str) {
        self.open(name);
        self.push_text(text);
        self.close(name);
    }

    fn push_text(&mut self, text: &str) {
        self.text.reserve(text.len());
        for character in text.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\r' => self.text.push_str("&#xD;"),
                other if is_xml_character(other) => self.text.push(other),
                _ => self.text.push('\u{fffd}'),
            }
        }
    }

    /// Returns how long the text is, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Takes back what was written after the text was `length` bytes long.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.text.truncate(length);
    }

    /// Returns the text.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_sqs_does_and_control_characters_do_not_break_the_document() {
        let mut xml = XmlWriter::default();
        xml.element("A", "<a & \"b\">\r\n\t'c'\u{1}");
        assert_eq!(xml.finish(), "<A>&lt;a &amp; &quot;b&quot;&gt;&#xD;\n\t'c'\u{fffd}</A>");
    }
}
