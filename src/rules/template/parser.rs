//! From tokens to a tree. Everything that can be known without data is refused here: syntax, unknown functions,
//! variables and fields of the template's data.

use super::functions::Function;
use super::lexer::{Part, Token, split, tokens};
use super::value::Value;
use std::collections::BTreeMap;

/// Nested parentheses and blocks; the evaluator recurses as deep.
const MAX_DEPTH: usize = 50;
/// What Prometheus declares before every rule's template.
const PREDECLARED: [&str; 5] = ["", "labels", "externalLabels", "externalURL", "value"];
const FIELDS: [&str; 4] = ["Labels", "Value", "ExternalLabels", "ExternalURL"];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    With(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// Variables for index and element; the elements; body; what to do if there are none.
    Range(Option<String>, Option<String>, Pipeline, Vec<Node>, Vec<Node>),
    /// A template by its name, and its dot.
    Template(String, Option<Pipeline>),
}

/// A whole template.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// What `define` and `block` named.
    pub defined: BTreeMap<String, Vec<Node>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    /// A variable and whether it is declared (`:=`) or assigned (`=`).
    pub target: Option<(String, bool)>,
    pub commands: Vec<Command>,
}

/// A function with arguments, a method (the last field of its operand) with arguments, or one operand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Call(Function, Vec<Operand>),
    Method(Operand, Vec<Operand>),
    Operand(Operand),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub base: Base,
    pub fields: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(Function),
    Pipeline(Box<Pipeline>),
}

pub(super) fn parse(text: &str) -> Result<Tree, String> {
    let mut parser = Parser {
        parts: split(text)?.into_iter(),
        scope: PREDECLARED.iter().map(|name| (*name).to_owned()).collect(),
        dot_is_root: true,
        depth: 0,
        defined: BTreeMap::new(),
        named: Vec::new(),
    };
    let (nodes, end) = parser.block()?;
    match end {
        Ending::Template => {}
        Ending::Else(_) => return Err("{{ else }} without an if, with or range".to_owned()),
        Ending::End => return Err("{{ end }} without an if, with or range".to_owned()),
    }
    if let Some(name) = parser.named.iter().find(|name| !parser.defined.contains_key(*name)) {
        let nearest = super::nearest(name, parser.defined.keys().map(String::as_str));
        let nearest = nearest.map_or(String::new(), |near| format!("; nearest: {near:?}"));
        return Err(format!("no template {name:?} is defined{nearest}"));
    }
    Ok(Tree { nodes, defined: parser.defined })
}

/// What ended a block.
enum Ending {
    Template,
    End,
    /// With what follows the word.
    Else(Vec<Token>),
}

struct Parser<'a> {
    parts: std::vec::IntoIter<Part<'a>>,
    scope: Vec<String>,
    /// Whether `.` is surely the template's data, whose fields are known.
    dot_is_root: bool,
    depth: usize,
    defined: BTreeMap<String, Vec<Node>>,
    /// Names that `template` calls.
    named: Vec<String>,
}

impl Parser<'_> {
    fn block(&mut self) -> Result<(Vec<Node>, Ending), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("blocks are nested deeper than {MAX_DEPTH}"));
        }
        let n_outer = self.scope.len();
        let mut nodes = Vec::new();
        let end = loop {
            let action = match self.parts.next() {
                None => break Ending::Template,
                Some(Part::Text(text)) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Some(Part::Action(action)) => tokens(action)?,
            };
            let Some(Token::Name(word)) = action.first() else {
                nodes.push(Node::Print(self.pipeline(&action)?));
                continue;
            };
            match word.as_str() {
                "end" if action.len() == 1 => break Ending::End,
                "else" => break Ending::Else(action[1..].to_vec()),
                "if" => nodes.push(self.branches(&action[1..], false)?),
                "with" => nodes.push(self.branches(&action[1..], true)?),
                "range" => nodes.push(self.range(&action[1..])?),
                "define" if self.depth > 1 => return Err("{{ define }} inside a block".to_owned()),
                "define" => self.define(&action[1..])?,
                "template" => nodes.push(self.template(&action[1..])?),
                "block" => nodes.push(self.named_block(&action[1..])?),
                "break" | "continue" => return Err(format!("{{{{ {word} }}}} is not supported")),
                _ => nodes.push(Node::Print(self.pipeline(&action)?)),
            }
        };
        self.scope.truncate(n_outer);
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn define(&mut self, head: &[Token]) -> Result<(), String> {
        let [Token::Text(name)] = head else {
            return Err("{{ define }} takes one name in quotation marks".to_owned());
        };
        self.body(name)
    }

    fn template(&mut self, head: &[Token]) -> Result<Node, String> {
        let [Token::Text(name), rest @ ..] = head else {
            return Err("{{ template }} takes a name in quotation marks".to_owned());
        };
        self.named.push(name.clone());
        let pipeline = if rest.is_empty() { None } else { Some(self.pipeline(rest)?) };
        Ok(Node::Template(name.clone(), pipeline))
    }

    /// `block`: `define` and `template` at once.
    fn named_block(&mut self, head: &[Token]) -> Result<Node, String> {
        let [Token::Text(name), rest @ ..] = head else {
            return Err("{{ block }} takes a name in quotation marks".to_owned());
        };
        if rest.is_empty() {
            return Err(format!("{{{{ block {name:?} }}}} needs what its dot is to be"));
        }
        let pipeline = self.pipeline(rest)?;
        self.body(name)?;
        Ok(Node::Template(name.clone(), Some(pipeline)))
    }

    /// The body of a template with a name: it sees its dot, and `$` for it, and nothing of what is around it. Of two
    /// with one name the last counts, as in Go.
    fn body(&mut self, name: &str) -> Result<(), String> {
        let scope = std::mem::replace(&mut self.scope, vec![String::new()]);
        let root = std::mem::replace(&mut self.dot_is_root, false);
        let (body, end) = self.block()?;
        self.scope = scope;
        self.dot_is_root = root;
        if !matches!(end, Ending::End) {
            return Err(format!("the template {name:?} is without an end"));
        }
        self.defined.insert(name.to_owned(), body);
        Ok(())
    }

    /// `if` or `with`, its `else if` and its `else`.
    fn branches(&mut self, condition: &[Token], with: bool) -> Result<Node, String> {
        let word = if with { "with" } else { "if" };
        let n_outer = self.scope.len();
        let root = self.dot_is_root;
        let mut branches = Vec::new();
        let mut condition = condition.to_vec();
        let otherwise = loop {
            let pipeline = self.pipeline(&condition)?;
            self.dot_is_root = root && !with;
            let (body, end) = self.block()?;
            self.dot_is_root = root;
            branches.push((pipeline, body));
            match end {
                Ending::Template => return Err(format!("{{{{ {word} }}}} without an end")),
                Ending::End => break Vec::new(),
                Ending::Else(rest) if rest.is_empty() => break self.otherwise(word)?,
                Ending::Else(rest) if rest[0] == Token::Name(word.to_owned()) => condition = rest[1..].to_vec(),
                Ending::Else(_) => return Err(format!("after else only {word} may follow here")),
            }
        };
        self.scope.truncate(n_outer);
        Ok(if with { Node::With(branches, otherwise) } else { Node::If(branches, otherwise) })
    }

    /// The body after a plain `else`.
    fn otherwise(&mut self, word: &str) -> Result<Vec<Node>, String> {
        match self.block()? {
            (body, Ending::End) => Ok(body),
            _ => Err(format!("the else of {{{{ {word} }}}} is without an end")),
        }
    }

    fn range(&mut self, head: &[Token]) -> Result<Node, String> {
        let n_outer = self.scope.len();
        let (index, element, rest) = match head {
            [Token::Variable(index), Token::Comma, Token::Variable(element), Token::Declare, rest @ ..] => {
                (Some(index.clone()), Some(element.clone()), rest)
            }
            [Token::Variable(element), Token::Declare, rest @ ..] => (None, Some(element.clone()), rest),
            rest => (None, None, rest),
        };
        let pipeline = self.pipeline(rest)?;
        self.scope.extend(index.iter().chain(&element).cloned());
        let root = std::mem::replace(&mut self.dot_is_root, false);
        let (body, end) = self.block()?;
        self.dot_is_root = root;
        self.scope.truncate(n_outer);
        let otherwise = match end {
            Ending::Template => return Err("{{ range }} without an end".to_owned()),
            Ending::End => Vec::new(),
            Ending::Else(rest) if rest.is_empty() => self.otherwise("range")?,
            Ending::Else(_) => return Err("after else nothing may follow here".to_owned()),
        };
        Ok(Node::Range(index, element, pipeline, body, otherwise))
    }

    fn pipeline(&mut self, tokens: &[Token]) -> Result<Pipeline, String> {
        let (target, rest) = match tokens {
            [Token::Variable(name), Token::Declare, rest @ ..] => (Some((name.clone(), true)), rest),
            [Token::Variable(name), Token::Assign, rest @ ..] => {
                self.known_variable(name)?;
                (Some((name.clone(), false)), rest)
            }
            rest => (None, rest),
        };
        let mut cursor = Cursor { tokens: rest, at: 0, depth: 0 };
        let commands = self.commands(&mut cursor)?;
        if cursor.at < rest.len() {
            return Err("a closing parenthesis without an opening one".to_owned());
        }
        if let Some((name, true)) = &target {
            self.scope.push(name.clone());
        }
        Ok(Pipeline { target, commands })
    }

    /// Commands up to the end or a closing parenthesis.
    fn commands(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<Command>, String> {
        let mut commands = Vec::new();
        loop {
            let mut operands = Vec::new();
            while let Some(token) = cursor.peek() {
                if matches!(token, Token::Pipe | Token::Close) {
                    break;
                }
                operands.push(self.operand(cursor)?);
            }
            commands.push(command(operands, !commands.is_empty())?);
            if cursor.peek() != Some(&Token::Pipe) {
                return Ok(commands);
            }
            cursor.at += 1;
        }
    }

    fn operand(&mut self, cursor: &mut Cursor<'_>) -> Result<Operand, String> {
        let token = cursor.tokens[cursor.at].clone();
        cursor.at += 1;
        let mut fields = Vec::new();
        let base = match token {
            Token::Dot => Base::Dot,
            Token::Field(name, _) => {
                if self.dot_is_root && !FIELDS.contains(&name.as_str()) {
                    return Err(format!("unknown field .{name}; known are .{}", FIELDS.join(", .")));
                }
                fields.push(name);
                Base::Dot
            }
            Token::Variable(name) => {
                self.known_variable(&name)?;
                Base::Variable(name)
            }
            Token::Text(text) => Base::Literal(Value::Text(text)),
            Token::Int(value) => Base::Literal(Value::Int(value)),
            Token::Float(value) => Base::Literal(Value::Float(value)),
            Token::Name(name) => match name.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Nil),
                _ => Base::Function(Function::find(&name)?),
            },
            Token::Open => {
                cursor.depth += 1;
                if cursor.depth > MAX_DEPTH {
                    return Err(format!("parentheses are nested deeper than {MAX_DEPTH}"));
                }
                let commands = self.commands(cursor)?;
                cursor.depth -= 1;
                if cursor.peek() != Some(&Token::Close) {
                    return Err("an opening parenthesis without a closing one".to_owned());
                }
                cursor.at += 1;
                Base::Pipeline(Box::new(Pipeline { target: None, commands }))
            }
            token => return Err(format!("unexpected {token:?}")),
        };
        while let Some(Token::Field(name, false)) = cursor.peek() {
            fields.push(name.clone());
            cursor.at += 1;
        }
        Ok(Operand { base, fields })
    }

    fn known_variable(&self, name: &str) -> Result<(), String> {
        if self.scope.iter().any(|known| known == name) {
            return Ok(());
        }
        let nearest = super::nearest(name, self.scope.iter().map(String::as_str).filter(|known| !known.is_empty()));
        Err(format!("unknown variable ${name}{}", nearest.map_or(String::new(), |near| format!("; nearest: ${near}"))))
    }
}

fn command(mut operands: Vec<Operand>, piped: bool) -> Result<Command, String> {
    if operands.is_empty() {
        return Err("an action or a command of a pipeline is empty".to_owned());
    }
    let first = operands.remove(0);
    match first {
        Operand { base: Base::Function(function), fields } if fields.is_empty() => {
            let n_arguments = operands.len() + usize::from(piped);
            function.check_count(n_arguments)?;
            Ok(Command::Call(function, operands))
        }
        // Only a value with methods takes them, which shows when it is there.
        first if !first.fields.is_empty() && (!operands.is_empty() || piped) => Ok(Command::Method(first, operands)),
        _ if !operands.is_empty() || piped => Err("only a function takes arguments".to_owned()),
        operand => Ok(Command::Operand(operand)),
    }
}

struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }
}
