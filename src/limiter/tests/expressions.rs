use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::limiter::expression::Expression;
use crate::limiter::ratio::Ratio;

fn value(text: &str) -> Result<Ratio, String> {
    let material = [("_base.pod", 3), ("v1.pod", 2), ("none.pod", 0)];
    let material = material.into_iter().map(|(name, number)| (name.to_owned(), Ratio::of(number)));
    let rate = ("rate".to_owned(), Ratio::near(2.5).unwrap());
    let material: BTreeMap<_, _> = material.chain([rate]).collect();
    Expression::parse(text)?.value(&material)
}

#[test]
fn expressions_are_computed_exactly() {
    for (text, expected) in [
        ("true", (1, 1)),
        ("false", (0, 1)),
        ("10", (10, 1)),
        (" 1.5 * 2 ", (3, 1)),
        ("100/{{._base.pod}}", (100, 3)),
        ("{{ .v1.pod }}*50", (100, 1)),
        ("2+3*4", (14, 1)),
        ("(2+3)*4", (20, 1)),
        ("10-2-3", (5, 1)),
        ("12/3/2", (2, 1)),
        ("-2 + 5", (3, 1)),
        ("2 - -3", (5, 1)),
        ("{{._base.pod}}>2", (1, 1)),
        ("{{._base.pod}}>3", (0, 1)),
        ("{{._base.pod}}>=3 & {{.v1.pod}}<=2", (1, 1)),
        ("3 == 3 && 2 < 1 || 1", (1, 1)),
        ("1 | 0 & 0", (1, 1)),
        ("7/{{.none.pod}}", (0, 1)),
        ("1/3 + 1/6 == 0.5", (1, 1)),
    ] {
        assert_eq!(value(text), Ok(Ratio::new(expected.0, expected.1).unwrap()), "{text}");
    }
}

#[test]
fn cels_notation_means_the_same() {
    for (text, expected) in [
        ("subsets[\"_base\"].pods > 2 && !(subsets['v1'].pods > 2)", (1, 1)),
        ("metrics['rate'] / 4", (5, 8)),
        ("metrics[\"rate\"]>2?100:10", (100, 1)),
        ("metrics['rate'] > 3 ? 100 : metrics['rate'] > 2 ? 50 : 10", (50, 1)),
        ("(false ? 1 : 2) * 3", (6, 1)),
        ("!false", (1, 1)),
        ("!1 + 1", (1, 1)),
        ("1 != 2", (1, 1)),
        ("2 != 2 || {{._base.pod}} != 3", (0, 1)),
        ("true ? 1 : {{.none.pod}}", (1, 1)),
        ("math.greatest(1, metrics['rate'], 2)", (5, 2)),
        ("math.least(100 / subsets['v1'].pods, 40) + 1", (41, 1)),
        ("math.greatest(7)", (7, 1)),
        ("math.ceil(metrics['rate']) * 10 + math.floor(metrics['rate'])", (32, 1)),
        ("math.round(2.5) - math.round(-2.5) + math.round(2.4)", (8, 1)),
        ("math.abs(-1.5) == 1.5 && math.abs(1.5) == 1.5", (1, 1)),
        ("int(-2.9) + int(2.9) + double(0.5)", (1, 2)),
        ("7 % 3 + -7 % 3 + 7.5 % 2", (3, 2)),
        ("7 % subsets['none'].pods", (0, 1)),
        ("int(true ? 1.5 : 2)", (1, 1)),
    ] {
        assert_eq!(value(text), Ok(Ratio::new(expected.0, expected.1).unwrap()), "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_a_reason() {
    let deep = "(".repeat(40) + "1" + &")".repeat(40);
    let long = "1".to_owned() + &"+1".repeat(200);
    for (text, expected) in [
        ("", "it is empty"),
        ("1 +", "it ends too early"),
        ("1 2", "a number is not expected"),
        ("(1", "a parenthesis is not closed"),
        ("1)", ") is not expected"),
        ("* 2", "* is not expected"),
        ("{{._base.pod", "{{ is not closed"),
        ("{{if true}}", "is no name of a metric"),
        ("{{_base.pod}}", "is no name of a metric"),
        ("1.2.3", "1.2.3 cannot be understood"),
        ("rate > 3", "rate > 3 cannot be understood"),
        ("9999999999999999999", "cannot be understood"),
        ("1 ? 2", "a ? has no :"),
        ("1 : 2", ": is not expected"),
        ("1 ? : 2", ": is not expected"),
        ("metrics.rate", "write metrics["),
        ("metrics['rate\"]", "write metrics["),
        ("metrics['a b']", "write metrics["),
        ("subsets['v1']", "write metrics["),
        ("metrics.exists(m, m > 1)", "write metrics["),
        ("'a' == 'a'", "cannot be understood"),
        ("math.greatest()", ") is not expected"),
        ("math.floor(1, 2)", "math.floor does not take 2 numbers"),
        ("math.floor 1", "math.floor is not followed by a parenthesis"),
        ("math.least(1, 2", "the parenthesis after math.least is not closed"),
        ("math.sqrt(4)", "cannot be understood"),
        ("1, 2", ", is not expected"),
        (&"int(".repeat(40), "nested"),
        (&"1?1:".repeat(60), "nested"),
        (&deep, "nested"),
        (&long, "words"),
        ("{{.v9.pod}}", "v9.pod is not known"),
        ("999999999999999999*999999999999999999*999999999999999999", "too large"),
    ] {
        let error = value(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn an_expression_tells_what_it_depends_on() {
    let read = Expression::parse("-{{.a.pod}} > 2*{{._base.pod}} | {{.a.pod}}").unwrap();
    assert_eq!(read.material().into_iter().collect::<Vec<_>>(), ["_base.pod", "a.pod"]);
}

proptest! {
    #[test]
    fn no_text_stops_the_reader(text in r#"[-+*/%,()<>=&|!?:{}.0-9a-z_ ]{0,60}|(int\(|math\.(greatest|round)\(|[-0-9.,)%]){0,20}|(metrics|subsets|é|\[|\]|"|'|\.pods|[a-z.]){0,20}"#) {
        let _ = value(&text);
    }
}
