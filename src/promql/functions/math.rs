//! Functions of one number, some with parameters.

/// From the value and the scalar arguments; no result takes the element away.
type Compute = fn(f64, &[f64]) -> Option<f64>;

pub fn find(name: &str) -> Option<Compute> {
    Some(match name {
        "abs" => |v, _| Some(v.abs()),
        "acos" => |v, _| Some(v.acos()),
        "acosh" => |v, _| Some(v.acosh()),
        "asin" => |v, _| Some(v.asin()),
        "asinh" => |v, _| Some(v.asinh()),
        "atan" => |v, _| Some(v.atan()),
        "atanh" => |v, _| Some(v.atanh()),
        "ceil" => |v, _| Some(v.ceil()),
        "clamp" => clamp,
        "clamp_max" => |v, p| Some(min(*p.first()?, v)),
        "clamp_min" => |v, p| Some(max(*p.first()?, v)),
        "cos" => |v, _| Some(v.cos()),
        "cosh" => |v, _| Some(v.cosh()),
        "deg" => |v, _| Some(v * 180.0 / std::f64::consts::PI),
        "exp" => |v, _| Some(v.exp()),
        "floor" => |v, _| Some(v.floor()),
        "ln" => |v, _| Some(v.ln()),
        "log10" => |v, _| Some(v.log10()),
        "log2" => |v, _| Some(v.log2()),
        "rad" => |v, _| Some(v * std::f64::consts::PI / 180.0),
        "round" => round,
        "sgn" => |v, _| {
            Some(if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v
            })
        },
        "sin" => |v, _| Some(v.sin()),
        "sinh" => |v, _| Some(v.sinh()),
        "sqrt" => |v, _| Some(v.sqrt()),
        "tan" => |v, _| Some(v.tan()),
        "tanh" => |v, _| Some(v.tanh()),
        _ => return None,
    })
}

fn clamp(value: f64, parameters: &[f64]) -> Option<f64> {
    let [least, most] = *parameters else { return None };
    if most < least { None } else { Some(max(least, min(most, value))) }
}

/// To the nearest multiple of the parameter (default 1); ties go up.
fn round(value: f64, parameters: &[f64]) -> Option<f64> {
    // Dividing by the inverse is exact for more steps than multiplying by the step.
    let inverse = 1.0 / parameters.first().copied().unwrap_or(1.0);
    Some((value * inverse + 0.5).floor() / inverse)
}

/// As Go's: NaN wins, unless the other is the least there is.
fn min(a: f64, b: f64) -> f64 {
    let is_least = a == f64::NEG_INFINITY || b == f64::NEG_INFINITY;
    if (a.is_nan() || b.is_nan()) && !is_least { f64::NAN } else { a.min(b) }
}

/// As Go's: NaN wins, unless the other is the most there is.
fn max(a: f64, b: f64) -> f64 {
    let is_most = a == f64::INFINITY || b == f64::INFINITY;
    if (a.is_nan() || b.is_nan()) && !is_most { f64::NAN } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn clamping_treats_nan_as_go_does() {
        let at = |name: &str, value: f64, parameters: &[f64]| find(name).unwrap()(value, parameters);
        assert!(at("clamp_min", f64::NAN, &[1.0]).unwrap().is_nan());
        assert_eq!(at("clamp_min", f64::NAN, &[f64::INFINITY]), Some(f64::INFINITY));
        assert_eq!(at("clamp_max", f64::NAN, &[f64::NEG_INFINITY]), Some(f64::NEG_INFINITY));
        assert_eq!(at("clamp", 5.0, &[3.0, 2.0]), None);
        assert_eq!(at("clamp", 5.0, &[1.0, 2.0]), Some(2.0));
    }
}
