//! What a template may read, told from its tree: too much rather than too little.

use super::functions::Function;
use super::parser::{Base, Command, Node, Operand, Pipeline};

/// Whether it asks the engine.
pub(super) fn queries(nodes: &[Node]) -> bool {
    let asks = |command: &Command| match command {
        Command::Call(function, _) => *function == Function::Query,
        Command::Operand(operand) => matches!(operand.base, Base::Function(Function::Query)),
    };
    any(nodes, &|command| asks(command) || operands(command).iter().any(|o| o.base == Base::Function(Function::Query)))
}

/// Whether it shows the value of the result, or may decide by it.
pub(super) fn reads_value(nodes: &[Node]) -> bool {
    let shows = |operand: &Operand| match &operand.base {
        Base::Variable(name) if name == "value" => true,
        // The whole data of the template; a dot may mean something else, and then nothing is lost.
        Base::Dot => is_not_text(operand),
        Base::Variable(name) => name.is_empty() && is_not_text(operand),
        Base::Literal(_) | Base::Function(_) | Base::Pipeline(_) => false,
    };
    any(nodes, &|command| operands(command).iter().any(shows))
}

fn is_not_text(operand: &Operand) -> bool {
    let field = operand.fields.first().map(String::as_str);
    !matches!(field, Some("Labels" | "ExternalLabels" | "ExternalURL"))
}

fn operands(command: &Command) -> &[Operand] {
    match command {
        Command::Call(_, operands) => operands,
        Command::Operand(operand) => std::slice::from_ref(operand),
    }
}

/// Whether some command of the tree, those in parentheses among them, is such.
fn any(nodes: &[Node], is: &dyn Fn(&Command) -> bool) -> bool {
    let branch = |(pipeline, body): &(Pipeline, Vec<Node>)| in_pipeline(pipeline, is) || any(body, is);
    nodes.iter().any(|node| match node {
        Node::Text(_) => false,
        Node::Print(pipeline) => in_pipeline(pipeline, is),
        Node::If(branches, otherwise) | Node::With(branches, otherwise) => {
            branches.iter().any(branch) || any(otherwise, is)
        }
        Node::Range(_, _, pipeline, body, otherwise) => {
            in_pipeline(pipeline, is) || any(body, is) || any(otherwise, is)
        }
    })
}

fn in_pipeline(pipeline: &Pipeline, is: &dyn Fn(&Command) -> bool) -> bool {
    pipeline.commands.iter().any(|command| {
        is(command)
            || operands(command).iter().any(|operand| match &operand.base {
                Base::Pipeline(inner) => in_pipeline(inner, is),
                _ => false,
            })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Template;

    #[test]
    fn what_a_template_may_read_is_told_from_its_text() {
        for (text, queries, reads_value) in [
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
        ] {
            let template = Template::parse(text).expect("a template");
            assert_eq!((template.queries(), template.reads_value()), (queries, reads_value), "{text}");
        }
    }
}
