//! Runs a template's tree.

use super::functions::Function;
use super::parser::{Base, Command, Node, Operand, Pipeline, Tree};
use super::value::Value;
use super::{Context, time};

/// An annotation longer than this (in bytes) is an error, not a mail.
const MAX_OUTPUT: usize = 64 * 1024;
/// Commands run for one text; nested ranges over large results end here.
const MAX_STEPS: usize = 100_000;
/// Templates that call each other, or themselves.
const MAX_DEPTH: usize = 20;

pub(super) fn run(tree: &Tree, context: &Context<'_>) -> Result<String, String> {
    let variables = vec![
        ("", Value::Root),
        ("labels", Value::Labels(context.labels.clone())),
        ("externalLabels", Value::Labels(context.external_labels.clone())),
        ("externalURL", Value::Text(context.external_url.to_owned())),
        ("value", Value::Float(context.value)),
    ];
    let mut machine = Machine { context, tree, variables, out: String::new(), n_steps: 0, depth: 0 };
    machine.nodes(&tree.nodes, &Value::Root)?;
    Ok(machine.out)
}

struct Machine<'a> {
    context: &'a Context<'a>,
    tree: &'a Tree,
    variables: Vec<(&'a str, Value)>,
    out: String,
    n_steps: usize,
    /// Of templates that call each other.
    depth: usize,
}

impl<'a> Machine<'a> {
    fn nodes(&mut self, nodes: &'a [Node], dot: &Value) -> Result<(), String> {
        for node in nodes {
            self.node(node, dot)?;
            if self.out.len() > MAX_OUTPUT {
                return Err(format!("the text is longer than {MAX_OUTPUT} bytes"));
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &'a Node, dot: &Value) -> Result<(), String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.target.is_none() {
                    value.print(&mut self.out);
                }
            }
            Node::If(branches, otherwise) => self.branches(branches, otherwise, dot, false)?,
            Node::With(branches, otherwise) => self.branches(branches, otherwise, dot, true)?,
            Node::Range(index, element, pipeline, body, otherwise) => {
                self.range((index.as_deref(), element.as_deref()), pipeline, body, otherwise, dot)?;
            }
            Node::Template(name, pipeline) => {
                let dot = pipeline.as_ref().map_or(Ok(Value::Nil), |pipeline| self.pipeline(pipeline, dot))?;
                self.template(name, &dot)?;
            }
        }
        Ok(())
    }

    fn template(&mut self, name: &str, dot: &Value) -> Result<(), String> {
        let tree: &'a Tree = self.tree;
        let body = tree.defined.get(name).ok_or_else(|| format!("no template {name:?} is defined"))?;
        self.depth += 1;
        self.n_steps += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("templates call each other deeper than {MAX_DEPTH}"));
        }
        if self.n_steps > MAX_STEPS {
            return Err(format!("the template takes more than {MAX_STEPS} steps"));
        }
        let outer = std::mem::replace(&mut self.variables, vec![("", dot.clone())]);
        let done = self.nodes(body, dot);
        self.variables = outer;
        self.depth -= 1;
        done
    }

    fn branches(
        &mut self,
        branches: &'a [(Pipeline, Vec<Node>)],
        otherwise: &'a [Node],
        dot: &Value,
        with: bool,
    ) -> Result<(), String> {
        let n_outer = self.variables.len();
        let mut taken = None;
        for (condition, body) in branches {
            let value = self.pipeline(condition, dot)?;
            if value.is_true() {
                taken = Some((value, body));
                break;
            }
        }
        match taken {
            Some((value, body)) => self.nodes(body, if with { &value } else { dot })?,
            None => self.nodes(otherwise, dot)?,
        }
        self.variables.truncate(n_outer);
        Ok(())
    }

    fn range(
        &mut self,
        (index, element): (Option<&'a str>, Option<&'a str>),
        pipeline: &'a Pipeline,
        body: &'a [Node],
        otherwise: &'a [Node],
        dot: &Value,
    ) -> Result<(), String> {
        let elements: Vec<(Value, Value)> = match self.pipeline(pipeline, dot)? {
            Value::List(list) => list.into_iter().enumerate().map(|(at, v)| (Value::Int(at as i64), v)).collect(),
            Value::Labels(labels) => {
                labels.iter().map(|(name, v)| (Value::Text(name.to_owned()), Value::Text(v.to_owned()))).collect()
            }
            Value::Map(map) => map.into_iter().map(|(name, v)| (Value::Text(name), v)).collect(),
            Value::Nil => Vec::new(),
            other => return Err(format!("range cannot iterate over {}", other.type_name())),
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let n_outer = self.variables.len();
        for (key, value) in elements {
            if let Some(index) = index {
                self.variables.push((index, key));
            }
            if let Some(element) = element {
                self.variables.push((element, value.clone()));
            }
            self.nodes(body, &value)?;
            self.variables.truncate(n_outer);
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Value) -> Result<Value, String> {
        let mut value: Option<Value> = None;
        for command in &pipeline.commands {
            self.n_steps += 1;
            if self.n_steps > MAX_STEPS {
                return Err(format!("the template takes more than {MAX_STEPS} steps"));
            }
            value = Some(match command {
                Command::Operand(operand) => self.operand(operand, dot)?,
                Command::Call(function, operands) => self.call(*function, operands, value.take(), dot)?,
                Command::Method(operand, operands) => self.method(operand, operands, value.take(), dot)?,
            });
        }
        let value = value.unwrap_or(Value::Nil);
        match &pipeline.target {
            Some((name, true)) => self.variables.push((name, value.clone())),
            Some((name, false)) => {
                if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    *slot = value.clone();
                }
            }
            None => {}
        }
        Ok(value)
    }

    /// `and` and `or` stop at the operand that decides.
    fn call(
        &mut self,
        function: Function,
        operands: &'a [Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let decides = match function {
            Function::And => Some(false),
            Function::Or => Some(true),
            _ => None,
        };
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if decides == Some(value.is_true()) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        function.call(arguments, self.context)
    }

    fn method(
        &mut self,
        operand: &'a Operand,
        operands: &'a [Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let Some((name, fields)) = operand.fields.split_last() else { return self.operand(operand, dot) };
        let value = self.base(&operand.base, fields, dot)?;
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        time::method(&value, name, &arguments)
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Value) -> Result<Value, String> {
        self.base(&operand.base, &operand.fields, dot)
    }

    fn base(&mut self, base: &'a Base, fields: &[String], dot: &Value) -> Result<Value, String> {
        let mut value = match base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => value.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| format!("unknown variable ${name}"))?
            }
            Base::Function(function) => function.call(Vec::new(), self.context)?,
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
        };
        for field in fields {
            value = self.field(value, field)?;
        }
        Ok(value)
    }

    fn field(&self, value: Value, field: &str) -> Result<Value, String> {
        Ok(match (value, field) {
            (Value::Root, "Labels") => Value::Labels(self.context.labels.clone()),
            (Value::Root, "Value") => Value::Float(self.context.value),
            (Value::Root, "ExternalLabels") => Value::Labels(self.context.external_labels.clone()),
            (Value::Root, "ExternalURL") => Value::Text(self.context.external_url.to_owned()),
            (Value::Sample(sample), "Labels") => Value::Labels(sample.labels),
            (Value::Sample(sample), "Value") => Value::Float(sample.value),
            (Value::Labels(labels), name) => Value::Text(labels.get(name).to_owned()),
            (Value::Map(mut map), name) => map.remove(name).unwrap_or(Value::Nil),
            (value @ (Value::Time(_) | Value::Duration(_)), name) => time::method(&value, name, &[])?,
            (value, name) => return Err(format!("a {} has no field {name}", value.type_name())),
        })
    }
}
