//! Tokens to a tree, by recursive descent; the grammar is in docs/reference/filter.md, rule for rule.
//!
//! Over 400 lines because one type walks the tokens and each rule of the grammar is one of its methods, in the grammar's order.

mod geo;

use granum_model::filter::{Bounds, FILTER_LIST_MAX};
use granum_model::{Condition, DocId, Scalar, datetime};

use super::Mistake;
use super::lexer::{Kind, Token};
use super::tree::Tree;

/// Deepest nesting of parentheses and `not`, so that hostile text can't exhaust the stack.
const NESTING_MAX: usize = 64;

/// Reads all tokens as one expression.
pub(super) fn parse(tokens: &[Token]) -> Result<Tree, Mistake> {
    let mut parser = Parser {
        tokens,
        next: 0,
        nesting: 0,
    };
    if parser.kind() == &Kind::End {
        return Ok(Tree::All(Vec::new()));
    }
    let tree = parser.any()?;
    match parser.kind() {
        Kind::End => Ok(tree),
        _ => Err(parser.expected("\"and\", \"or\" or the end")),
    }
}

struct Parser<'t> {
    tokens: &'t [Token],
    next: usize,
    nesting: usize,
}

/// What a comparison compares.
enum Subject {
    Field(String),
    Count(String),
    Id,
}

/// A bound of a range.
#[derive(Clone, Copy)]
enum Bound {
    Number(f64),
    Instant(i64),
}

impl Parser<'_> {
    /// `any := all { "or" all }`
    fn any(&mut self) -> Result<Tree, Mistake> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Tree::Some(1, parts),
        })
    }

    /// `all := one { "and" one }`
    fn all(&mut self) -> Result<Tree, Mistake> {
        let mut parts = vec![self.one()?];
        while self.take_word("and") {
            parts.push(self.one()?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Tree::All(parts),
        })
    }

    /// `one := "not" one | "(" [ any ] ")" | "at" "least" N "of" "(" any { "," any } ")" | condition`
    fn one(&mut self) -> Result<Tree, Mistake> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(self.mistake(format!("nested more than {NESTING_MAX} levels")));
        }
        let tree = if self.take_word("not") {
            Tree::Not(Box::new(self.one()?))
        } else if self.take_sign("(") {
            self.inside(")")?
        } else if self.is_word("at") && self.is_word_after("least") {
            self.next += 2;
            self.at_least()?
        } else {
            self.condition()?
        };
        self.nesting -= 1;
        Ok(tree)
    }

    /// What stands between an opening sign, already taken, and `close`.
    fn inside(&mut self, close: &'static str) -> Result<Tree, Mistake> {
        if self.take_sign(close) {
            return Ok(Tree::All(Vec::new()));
        }
        let tree = self.any()?;
        self.need_sign(close)?;
        Ok(tree)
    }

    fn at_least(&mut self) -> Result<Tree, Mistake> {
        let at = self.at();
        let wanted = self.whole_number()?;
        if !self.take_word("of") {
            return Err(self.expected("\"of\""));
        }
        self.need_sign("(")?;
        let mut parts = vec![self.any()?];
        while self.take_sign(",") {
            parts.push(self.any()?);
        }
        self.need_sign(")")?;
        match u32::try_from(wanted) {
            // Of one condition: that condition, which is how it is printed.
            Ok(1) if parts.len() == 1 => Ok(parts.remove(0)),
            Ok(wanted @ 1..) if wanted as usize <= parts.len() => Ok(Tree::Some(wanted, parts)),
            _ => Err(Mistake::new(
                at,
                format!("at least {wanted} of {0} conditions, must be 1..={0}", parts.len()),
            )),
        }
    }

    /// `condition := "exists" "(" path ")" | "vector" "(" name ")" | area | bound order subject [ order bound ] | subject test`
    fn condition(&mut self) -> Result<Tree, Mistake> {
        if let Some(function) = self.function() {
            match function.as_str() {
                "exists" => {
                    let key = self.argument()?;
                    return Ok(Tree::Not(Box::new(Tree::One(Condition::IsEmpty { key }))));
                }
                "vector" => {
                    // Unlike a path, a vector's name may be empty.
                    let name = self.text()?;
                    self.need_sign(")")?;
                    return Ok(Tree::One(Condition::HasVector { name }));
                }
                "circle" | "box" | "polygon" => return self.area(&function),
                "date" => return self.chain(),
                _ => {}
            }
        }
        let starts_with_number = matches!(self.kind(), Kind::Word(word) if number(word).is_some());
        if starts_with_number && self.order_after() {
            return self.chain();
        }
        match self.subject()? {
            Subject::Field(key) => self.field_test(key),
            Subject::Count(key) => self.count_test(key),
            Subject::Id => self.id_test(),
        }
    }

    /// Name of the function called here, if one is; it is taken with its parenthesis.
    fn function(&mut self) -> Option<String> {
        let Kind::Word(word) = self.kind() else { return None };
        let word = word.to_ascii_lowercase();
        let known = matches!(word.as_str(), "exists" | "vector" | "circle" | "box" | "polygon");
        let called = self.tokens.get(self.next + 1).map(|token| &token.kind) == Some(&Kind::Sign("("));
        if !called {
            return None;
        }
        if known {
            self.next += 2;
        }
        Some(word)
    }

    /// The one argument of a function whose parenthesis is taken.
    fn argument(&mut self) -> Result<String, Mistake> {
        let argument = self.path()?;
        self.need_sign(")")?;
        Ok(argument)
    }

    /// `subject := path | "count" "(" path ")" | "id" "(" ")"`
    fn subject(&mut self) -> Result<Subject, Mistake> {
        match self.function().as_deref() {
            Some("count") => {
                self.next += 2;
                Ok(Subject::Count(self.argument()?))
            }
            Some("id") => {
                self.next += 2;
                self.need_sign(")")?;
                Ok(Subject::Id)
            }
            Some(other) => Err(self.mistake(format!(
                "no function {other:?}; there are exists(), count(), id(), vector(), circle(), box(), polygon() and date()"
            ))),
            None => Ok(Subject::Field(self.path()?)),
        }
    }

    /// `test := "=" scalar | "!=" scalar | "~" text | order bound | [ "not" ] "in" list | "other" "than" list
    ///        | "is" [ "not" ] ( "null" | "empty" ) | "{" [ any ] "}"`
    fn field_test(&mut self, key: String) -> Result<Tree, Mistake> {
        if self.take_sign("{") {
            let inner = self.inside("}")?;
            return Ok(Tree::Nested(key, Box::new(inner)));
        }
        if let Some(sign) = self.take_order() {
            let bound = self.bound()?;
            return Ok(Tree::One(range(key, &[(sign, bound)])));
        }
        if self.take_sign("~") {
            let (at, text) = (self.at(), self.text()?);
            if text.is_empty() {
                return Err(Mistake::new(at, "no words to look for"));
            }
            return Ok(Tree::One(Condition::MatchText { key, text }));
        }
        if self.take_word("is") {
            return self.is_test(key);
        }
        if self.take_word("other") {
            if !self.take_word("than") {
                return Err(self.expected("\"than\""));
            }
            let (at, except) = (self.at(), self.list(Self::scalar)?);
            if except.is_empty() {
                return Err(Mistake::new(
                    at,
                    "other than what? \"exists(field)\" asks for any value",
                ));
            }
            return Ok(Tree::One(Condition::MatchExcept { key, except }));
        }
        let (negated, listed) = self.equality("=, !=, <, <=, >, >=, ~, in, not in, other than, is or {")?;
        if !listed && self.function().as_deref() == Some("date") {
            let instant = self.bound()?;
            let test = range(key, &[(">=", instant), ("<=", instant)]);
            return Ok(negate_if(negated, test));
        }
        let any = if listed {
            self.list(Self::scalar)?
        } else {
            vec![self.scalar()?]
        };
        Ok(negate_if(negated, Condition::MatchAny { key, any }))
    }

    fn is_test(&mut self, key: String) -> Result<Tree, Mistake> {
        let negated = self.take_word("not");
        let test = if self.take_word("null") {
            Condition::IsNull { key }
        } else if self.take_word("empty") {
            Condition::IsEmpty { key }
        } else {
            return Err(self.expected("\"null\" or \"empty\""));
        };
        Ok(negate_if(negated, test))
    }

    /// How many values a field holds: `=`, `!=` or an order.
    fn count_test(&mut self, key: String) -> Result<Tree, Mistake> {
        if let Some(sign) = self.take_order() {
            let count = self.whole_number()?;
            return Ok(Tree::One(values_count(key, &[(sign, count)])));
        }
        let negated = match self.kind() {
            Kind::Sign("=") => false,
            Kind::Sign("!=") => true,
            _ => return Err(self.expected("=, !=, <, <=, > or >=")),
        };
        self.next += 1;
        let count = self.whole_number()?;
        Ok(negate_if(negated, values_count(key, &[(">=", count), ("<=", count)])))
    }

    fn id_test(&mut self) -> Result<Tree, Mistake> {
        let (negated, listed) = self.equality("=, !=, in or not in")?;
        let ids = if listed { self.list(Self::id)? } else { vec![self.id()?] };
        Ok(negate_if(negated, Condition::HasId { ids }))
    }

    /// `=`, `!=`, `in` or `not in`: whether it is negated, and whether a list follows.
    fn equality(&mut self, expected: &str) -> Result<(bool, bool), Mistake> {
        let found = match self.kind() {
            Kind::Sign("=") => (false, false),
            Kind::Sign("!=") => (true, false),
            _ if self.is_word("in") => (false, true),
            _ if self.is_word("not") && self.is_word_after("in") => {
                self.next += 1;
                (true, true)
            }
            _ => return Err(self.expected(expected)),
        };
        self.next += 1;
        Ok(found)
    }

    /// `1000 < size <= 5e6`: one value within both bounds, which two comparisons joined by `and` would not say of a list.
    fn chain(&mut self) -> Result<Tree, Mistake> {
        let at = self.at();
        let first = self.bound()?;
        let sign = self.take_order().ok_or_else(|| self.expected("<, <=, > or >="))?;
        let subject = self.subject()?;
        let mut bounds = vec![(mirrored(sign), first)];
        if let Some(second_sign) = self.take_order() {
            if second_sign.as_bytes()[0] != sign.as_bytes()[0] {
                return Err(Mistake::new(at, "both signs of a range must point the same way"));
            }
            bounds.push((second_sign, self.bound()?));
        }
        match subject {
            Subject::Field(key) => match bounds[..] {
                [(_, Bound::Number(_)), (_, Bound::Instant(_))] | [(_, Bound::Instant(_)), (_, Bound::Number(_))] => {
                    Err(Mistake::new(at, "bounds are numbers or dates, not both"))
                }
                _ => Ok(Tree::One(range(key, &bounds))),
            },
            Subject::Count(key) => {
                let count = |&(sign, bound): &(&'static str, Bound)| match bound {
                    Bound::Number(count) if count >= 0.0 && count.fract() == 0.0 => Ok((sign, count as u64)),
                    _ => Err(Mistake::new(at, "a count is compared with whole numbers")),
                };
                let counts = bounds.iter().map(count).collect::<Result<Vec<_>, _>>()?;
                Ok(Tree::One(values_count(key, &counts)))
            }
            Subject::Id => Err(Mistake::new(at, "ids have no order here; use = or in")),
        }
    }

    /// A number, or `date(2024-01-31)`, `date(2024-01-31T12:00:00Z)`, `date("2024-01-31 12:00")`.
    fn bound(&mut self) -> Result<Bound, Mistake> {
        let at = self.at();
        if self.take_word("date") {
            self.need_sign("(")?;
            let text = self.text()?;
            let instant = datetime::parse_micros(&text)
                .ok_or_else(|| Mistake::new(at, format!("{text:?} is no date: 2024-01-31 or 2024-01-31T12:00:00Z")))?;
            self.need_sign(")")?;
            return Ok(Bound::Instant(instant));
        }
        let value = match self.kind() {
            Kind::Word(word) => number(word),
            _ => None,
        };
        let value = value.ok_or_else(|| self.expected("a number or date(...)"))?;
        self.next += 1;
        Ok(Bound::Number(value))
    }

    fn whole_number(&mut self) -> Result<u64, Mistake> {
        let value = match self.kind() {
            Kind::Word(word) => word.parse().ok(),
            _ => None,
        };
        let value = value.ok_or_else(|| self.expected("a whole number"))?;
        self.next += 1;
        Ok(value)
    }

    /// `list := "(" [ value { "," value } ] ")"`
    fn list<T>(&mut self, value: fn(&mut Self) -> Result<T, Mistake>) -> Result<Vec<T>, Mistake> {
        let at = self.at();
        self.need_sign("(")?;
        let mut values = Vec::new();
        if self.take_sign(")") {
            return Ok(values);
        }
        loop {
            values.push(value(self)?);
            if values.len() > FILTER_LIST_MAX {
                return Err(Mistake::new(at, format!("more than {FILTER_LIST_MAX} values")));
            }
            if !self.take_sign(",") {
                self.need_sign(")")?;
                return Ok(values);
            }
        }
    }

    /// A bare number, `true` or `false` is what it says; any other word, and whatever stands in quotes, is text.
    fn scalar(&mut self) -> Result<Scalar, Mistake> {
        let scalar = match self.kind() {
            Kind::Quoted(text) => Scalar::Text(text.clone()),
            Kind::Word(word) if word == "true" => Scalar::Boolean(true),
            Kind::Word(word) if word == "false" => Scalar::Boolean(false),
            Kind::Word(word) if word == "null" => {
                return Err(self.mistake("null is asked for with \"is null\"; the text null goes in quotes"));
            }
            Kind::Word(word) => match (word.parse(), number(word)) {
                (Ok(integer), Some(_)) => Scalar::Integer(integer),
                (_, Some(float)) => Scalar::Float(float),
                _ => Scalar::Text(word.clone()),
            },
            _ => return Err(self.expected("a value")),
        };
        self.next += 1;
        Ok(scalar)
    }

    /// A bare whole number is a number id; everything else is text or, where it spells one, a UUID.
    fn id(&mut self) -> Result<DocId, Mistake> {
        let id = match self.kind() {
            Kind::Word(word) => match word.parse() {
                Ok(number) => Ok(DocId::Number(number)),
                Err(_) => DocId::from_text(word),
            },
            Kind::Quoted(text) => DocId::from_text(text),
            _ => return Err(self.expected("an id")),
        };
        let id = id.map_err(|error| self.mistake(error.to_string()))?;
        self.next += 1;
        Ok(id)
    }

    fn text(&mut self) -> Result<String, Mistake> {
        match self.kind() {
            Kind::Word(text) | Kind::Quoted(text) => {
                let text = text.clone();
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.expected("a text")),
        }
    }

    fn path(&mut self) -> Result<String, Mistake> {
        match self.kind() {
            Kind::Word(word) if !["and", "or"].iter().any(|taken| word.eq_ignore_ascii_case(taken)) => self.text(),
            Kind::Quoted(path) if !path.is_empty() => self.text(),
            _ => Err(self.expected("a condition, such as section = games")),
        }
    }

    fn kind(&self) -> &Kind {
        &self.tokens[self.next].kind
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    fn is_word(&self, wanted: &str) -> bool {
        matches!(self.kind(), Kind::Word(word) if word.eq_ignore_ascii_case(wanted))
    }

    fn is_word_after(&self, wanted: &str) -> bool {
        let after = self.tokens.get(self.next + 1);
        after.is_some_and(|token| matches!(&token.kind, Kind::Word(word) if word.eq_ignore_ascii_case(wanted)))
    }

    fn order_after(&self) -> bool {
        let after = self.tokens.get(self.next + 1).map(|token| &token.kind);
        matches!(after, Some(Kind::Sign("<" | "<=" | ">" | ">=")))
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.is_word(wanted);
        self.next += usize::from(found);
        found
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        let found = matches!(self.kind(), Kind::Sign(sign) if *sign == wanted);
        self.next += usize::from(found);
        found
    }

    fn take_order(&mut self) -> Option<&'static str> {
        match *self.kind() {
            Kind::Sign(sign @ ("<" | "<=" | ">" | ">=")) => {
                self.next += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn need_sign(&mut self, wanted: &'static str) -> Result<(), Mistake> {
        match self.take_sign(wanted) {
            true => Ok(()),
            false => Err(self.expected(&format!("{wanted:?}"))),
        }
    }

    fn mistake(&self, problem: impl Into<String>) -> Mistake {
        Mistake::new(self.at(), problem)
    }

    fn expected(&self, what: &str) -> Mistake {
        let found = match self.kind() {
            Kind::Word(word) => format!("{word:?}"),
            Kind::Quoted(_) => "a quoted text".to_owned(),
            Kind::Sign(sign) => format!("{sign:?}"),
            Kind::End => "the end".to_owned(),
        };
        self.mistake(format!("expected {what}, found {found}"))
    }
}

/// A finite number as JSON would write it, also without digits before or after the point.
pub(super) fn number(word: &str) -> Option<f64> {
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    let looks = word.chars().all(numeric) && word.starts_with(|c: char| c.is_ascii_digit() || "-+.".contains(c));
    word.parse().ok().filter(|value: &f64| looks && value.is_finite())
}

fn negate_if(negated: bool, test: Condition) -> Tree {
    match negated {
        true => Tree::Not(Box::new(Tree::One(test))),
        false => Tree::One(test),
    }
}

/// `5 < x` is `x > 5`.
fn mirrored(sign: &'static str) -> &'static str {
    match sign {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        _ => "<=",
    }
}

fn bounds<T: Copy>(list: impl Iterator<Item = (&'static str, T)>) -> Bounds<T> {
    let mut bounds = Bounds {
        gt: None,
        gte: None,
        lt: None,
        lte: None,
    };
    for (sign, value) in list {
        let bound = match sign {
            ">" => &mut bounds.gt,
            ">=" => &mut bounds.gte,
            "<" => &mut bounds.lt,
            _ => &mut bounds.lte,
        };
        *bound = Some(value);
    }
    bounds
}

/// All bounds are of one kind: the caller has checked.
fn range(key: String, list: &[(&'static str, Bound)]) -> Condition {
    let numbers = list.iter().filter_map(|&(sign, bound)| match bound {
        Bound::Number(number) => Some((sign, number)),
        Bound::Instant(_) => None,
    });
    let instants = list.iter().filter_map(|&(sign, bound)| match bound {
        Bound::Instant(instant) => Some((sign, instant)),
        Bound::Number(_) => None,
    });
    match list[0].1 {
        Bound::Number(_) => Condition::Range {
            key,
            bounds: bounds(numbers),
        },
        Bound::Instant(_) => Condition::DatetimeRange {
            key,
            bounds: bounds(instants),
        },
    }
}

fn values_count(key: String, list: &[(&'static str, u64)]) -> Condition {
    Condition::ValuesCount {
        key,
        bounds: bounds(list.iter().copied()),
    }
}
