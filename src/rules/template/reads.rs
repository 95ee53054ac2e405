//! What a template may read, told from its tree: too much rather than too little.

use super::functions::Function;
use super::parser::{Base, Command, Node, Operand, Pipeline, Tree};
use super::value::Value;

/// Whether it asks the engine, or the clock.
pub(super) fn is_volatile(tree: &Tree) -> bool {
    let is_such = |function: Function| matches!(function, Function::Query | Function::Now);
    let asks = |command: &Command| match command {
        Command::Call(function, _) => is_such(*function),
        Command::Method(..) | Command::Operand(_) => false,
    };
    let is_base = |operand: &Operand| matches!(&operand.base, Base::Function(function) if is_such(*function));
    anywhere(tree, &|command| asks(command) || operands(command).any(is_base))
}

/// Whether it shows the value of the result, or may decide by it.
pub(super) fn reads_value(tree: &Tree) -> bool {
    let shows = |operand: &Operand| match &operand.base {
        Base::Variable(name) if name == "value" => true,
        // The whole data of the template; a dot may mean something else, and then nothing is lost.
        Base::Dot => is_not_text(operand),
        Base::Variable(name) => name.is_empty() && is_not_text(operand),
        Base::Literal(_) | Base::Function(_) | Base::Pipeline(_) => false,
    };
    anywhere(tree, &|command| operands(command).any(shows))
}

/// What it asks the engine with `query`, as far as its text tells.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::rules) enum Asked {
    /// This.
    Query(String),
    /// The format of a `printf`: what is put in shows with the alert.
    Format(String),
    /// Put together in another way.
    Unknown,
}

pub(super) fn asked(tree: &Tree) -> Vec<Asked> {
    let found = std::cell::RefCell::new(Vec::new());
    pipelines(tree, &|pipeline| {
        for (at, command) in pipeline.commands.iter().enumerate() {
            let Command::Call(Function::Query, arguments) = command else { continue };
            let before = at.checked_sub(1).map(|before| &pipeline.commands[before]);
            found.borrow_mut().push(match (arguments.first(), before) {
                (Some(argument), _) => asked_by(argument),
                (None, Some(command)) => asked_in(command, at == 1),
                (None, None) => Asked::Unknown,
            });
        }
    });
    found.into_inner()
}

fn asked_by(operand: &Operand) -> Asked {
    match &operand.base {
        Base::Literal(Value::Text(text)) if operand.fields.is_empty() => Asked::Query(text.clone()),
        Base::Pipeline(pipeline) => match &pipeline.commands[..] {
            [command] => asked_in(command, true),
            _ => Asked::Unknown,
        },
        _ => Asked::Unknown,
    }
}

fn asked_in(command: &Command, is_first: bool) -> Asked {
    match command {
        Command::Operand(operand) => asked_by(operand),
        Command::Call(Function::Printf, arguments) => match arguments.first().map(|operand| &operand.base) {
            Some(Base::Literal(Value::Text(format))) => Asked::Format(format.clone()),
            _ => Asked::Unknown,
        },
        Command::Call(Function::Print, arguments) if is_first && arguments.len() == 1 => asked_by(&arguments[0]),
        _ => Asked::Unknown,
    }
}

fn is_not_text(operand: &Operand) -> bool {
    let field = operand.fields.first().map(String::as_str);
    !matches!(field, Some("Labels" | "ExternalLabels" | "ExternalURL"))
}

fn operands(command: &Command) -> impl Iterator<Item = &Operand> {
    let (first, rest) = match command {
        Command::Call(_, operands) => (None, &operands[..]),
        Command::Method(operand, operands) => (Some(operand), &operands[..]),
        Command::Operand(operand) => (Some(operand), &[][..]),
    };
    first.into_iter().chain(rest)
}

/// Whether some command, those in parentheses and of defined templates among them, is such.
fn anywhere(tree: &Tree, is: &dyn Fn(&Command) -> bool) -> bool {
    let found = std::cell::Cell::new(false);
    pipelines(tree, &|pipeline| found.set(found.get() || pipeline.commands.iter().any(is)));
    found.get()
}

/// Calls `each` with every pipeline.
fn pipelines(tree: &Tree, each: &dyn Fn(&Pipeline)) {
    of_nodes(&tree.nodes, each);
    tree.defined.values().for_each(|body| of_nodes(body, each));
}

fn of_nodes(nodes: &[Node], each: &dyn Fn(&Pipeline)) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Print(pipeline) => of_pipeline(pipeline, each),
            Node::If(branches, otherwise) | Node::With(branches, otherwise) => {
                for (pipeline, body) in branches {
                    of_pipeline(pipeline, each);
                    of_nodes(body, each);
                }
                of_nodes(otherwise, each);
            }
            Node::Range(_, _, pipeline, body, otherwise) => {
                of_pipeline(pipeline, each);
                of_nodes(body, each);
                of_nodes(otherwise, each);
            }
            Node::Template(_, pipeline) => pipeline.iter().for_each(|pipeline| of_pipeline(pipeline, each)),
        }
    }
}

fn of_pipeline(pipeline: &Pipeline, each: &dyn Fn(&Pipeline)) {
    each(pipeline);
    for operand in pipeline.commands.iter().flat_map(operands) {
        if let Base::Pipeline(inner) = &operand.base {
            of_pipeline(inner, each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Template;

    #[test]
    fn what_a_template_may_read_is_told_from_its_text() {
        for (text, is_volatile, reads_value) in [
            ("plain", false, false),
            ("{{ $labels.device }} at {{ .Labels.site }} {{ $externalURL }}", false, false),
            ("{{ $value | humanize }}", false, true),
            ("{{ .Value }}", false, true),
            ("{{ . }}", false, true),
            ("{{ printf \"%v\" $ }}", false, true),
            ("{{ if gt (len $labels.a) 3 }}{{ printf \"%.2f\" (printf \"%v\" $value) }}{{ end }}", false, true),
            ("{{ with $labels.a }}b{{ else }}{{ $value }}{{ end }}", false, true),
            ("{{ range query \"up\" }}a{{ end }}", true, false),
            ("{{ with (query \"up\" | first) }}{{ $labels.a }}{{ end }}", true, false),
            ("{{ \"up\" | query | first | value }}", true, false),
            ("{{ toTime now }}", true, false),
            ("{{ (toTime $value).Format \"2006\" }}", false, true),
            ("{{ define \"x\" }}{{ query \"up\" }}{{ end }}{{ template \"x\" }}", true, false),
            ("{{ define \"x\" }}{{ . }}{{ end }}{{ template \"x\" $value }}", false, true),
        ] {
            let template = Template::parse(text).expect("a template");
            assert_eq!((template.is_volatile(), template.reads_value()), (is_volatile, reads_value), "{text}");
        }
    }
}
