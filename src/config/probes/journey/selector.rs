//! CSS selectors of captures: the part of CSS that finds a field or a link in a page. Whatever else CSS has is refused by
//! name, never read as something else.

/// Elements within elements: `form#login input[name="csrf"]`. The last compound is the element that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Not empty.
    pub compounds: Vec<Compound>,
}

/// What one element must be. Tag and attribute names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compound {
    /// `None` is any.
    pub tag: Option<String>,
    pub attributes: Vec<AttributeTest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeTest {
    pub name: String,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    Present,
    /// `[a=v]`, `#v`.
    Equals(String),
    /// `[a~=v]`, `.v`: one of the words.
    HasWord(String),
    /// `[a^=v]`
    StartsWith(String),
    /// `[a$=v]`
    EndsWith(String),
    /// `[a*=v]`
    Contains(String),
}

impl Test {
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Test::Present => true,
            Test::Equals(wanted) => value == wanted,
            Test::HasWord(wanted) => value.split_ascii_whitespace().any(|word| word == wanted),
            Test::StartsWith(wanted) => value.starts_with(wanted.as_str()),
            Test::EndsWith(wanted) => value.ends_with(wanted.as_str()),
            Test::Contains(wanted) => value.contains(wanted.as_str()),
        }
    }
}

impl Selector {
    /// # Errors
    /// What is wrong, and what is possible.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let mut compounds = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (compound, after) = compound(rest)?;
            compounds.push(compound);
            rest = after.trim_start();
        }
        if compounds.is_empty() { Err(usage("nothing")) } else { Ok(Selector { compounds }) }
    }
}

fn usage(found: &str) -> String {
    format!(
        "{found} is not possible in a selector here; possible are tag, #id, .class, [name=\"value\"] and spaces between elements"
    )
}

/// One compound and what follows it; `text` does not begin with space.
fn compound(text: &str) -> Result<(Compound, &str), String> {
    let mut compound = Compound::default();
    let mut rest = text;
    let mut is_first = true;
    while let Some(next) = rest.chars().next().filter(|c| !c.is_whitespace()) {
        match next {
            '#' | '.' => {
                let (name, after) = ident(&rest[1..]);
                if name.is_empty() {
                    return Err(usage(&format!("\"{next}\" without a name")));
                }
                let (attribute, test) = match next {
                    '#' => ("id", Test::Equals(name.to_owned())),
                    _ => ("class", Test::HasWord(name.to_owned())),
                };
                compound.attributes.push(AttributeTest { name: attribute.to_owned(), test });
                rest = after;
            }
            '[' => {
                let (test, after) = attribute(&rest[1..])?;
                compound.attributes.push(test);
                rest = after;
            }
            '*' if is_first => rest = &rest[1..],
            _ => {
                let (name, after) = ident(rest);
                if name.is_empty() || !is_first {
                    return Err(usage(&format!("\"{next}\"")));
                }
                compound.tag = Some(name.to_ascii_lowercase());
                rest = after;
            }
        }
        is_first = false;
    }
    Ok((compound, rest))
}

fn ident(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')).unwrap_or(text.len());
    text.split_at(end)
}

/// `name="value"]`, what stands after the opening bracket.
fn attribute(text: &str) -> Result<(AttributeTest, &str), String> {
    let unclosed = || "\"[\" without \"]\"".to_owned();
    // Frameworks have names such as data-x:y.
    let end = text.find(|c: char| c.is_whitespace() || "=]~^$*|\"'".contains(c)).ok_or_else(unclosed)?;
    let name = text[..end].to_ascii_lowercase();
    if name.is_empty() {
        return Err(usage("\"[]\" without a name"));
    }
    let rest = text[end..].trim_start();
    if let Some(rest) = rest.strip_prefix(']') {
        return Ok((AttributeTest { name, test: Test::Present }, rest));
    }
    let operator = ["=", "~=", "^=", "$=", "*="].into_iter().find(|operator| rest.starts_with(operator));
    let operator = operator.ok_or_else(|| usage(&format!("[{name} {}", rest.chars().next().unwrap_or(' '))))?;
    let rest = rest[operator.len()..].trim_start();
    let (value, rest) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => rest[1..].split_once(quote).ok_or_else(unclosed)?,
        _ => ident(rest),
    };
    let rest = rest.trim_start().strip_prefix(']').ok_or_else(unclosed)?;
    let value = value.to_owned();
    let test = match operator {
        "=" => Test::Equals(value),
        "~=" => Test::HasWord(value),
        "^=" => Test::StartsWith(value),
        "$=" => Test::EndsWith(value),
        _ => Test::Contains(value),
    };
    Ok((AttributeTest { name, test }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tags_ids_classes_attributes_and_nesting() {
        let selector = Selector::parse("form#login.main  INPUT[name='csrf token'][type=hidden] *[data-x:y]").unwrap();
        let [form, input, any] = selector.compounds.as_slice() else { panic!("{selector:?}") };
        assert_eq!(
            (form.tag.as_deref(), input.tag.as_deref(), any.tag.as_deref()),
            (Some("form"), Some("input"), None)
        );
        assert_eq!(form.attributes[1].test, Test::HasWord("main".into()));
        assert_eq!(input.attributes[0].test, Test::Equals("csrf token".into()));
        assert_eq!(any.attributes, [AttributeTest { name: "data-x:y".into(), test: Test::Present }]);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "",
            "a > b",
            "a, b",
            "a:first-child",
            "a + b",
            "[",
            "[=x]",
            "[a",
            "[a=\"x]",
            "[a|=b]",
            "#",
            "a*",
            "[a='b' i]",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
