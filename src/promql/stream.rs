//! The elements of an instant vector, one by one.

use super::QueryError;
use super::binary;
use super::element::{Element, Name, Tags};
use super::eval::Evaluation;
use super::node::Node;

impl<'s> Evaluation<'s> {
    /// Gives each element of a vector. What a comparison filters away is held by nobody.
    pub fn each_element(&self, node: &Node, at_ms: i64, each: &mut dyn FnMut(Element<'s>)) -> Result<(), QueryError> {
        match node {
            Node::Select(selector) => self.each_sample(selector, at_ms, &mut |labels, _, value| {
                each(Element { labels: Tags::Stored(labels), name: Name::Kept, value });
            }),
            Node::Binary(binary) if binary.is_with_scalar() => binary::each_with_scalar(self, binary, at_ms, each),
            _ => {
                self.vector(node, at_ms)?.into_iter().for_each(each);
                Ok(())
            }
        }
    }

    /// [`Evaluation::each_element`], all of them.
    pub fn elements(&self, node: &Node, at_ms: i64) -> Result<Vec<Element<'s>>, QueryError> {
        let mut elements = Vec::new();
        self.each_element(node, at_ms, &mut |element| elements.push(element))?;
        Ok(elements)
    }
}
