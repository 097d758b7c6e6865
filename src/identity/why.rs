//! Why two observations are linked: the shortest chain of identifiers that leads from one to the other,
//! and which parts of it no other chain goes around.

use super::id::ObservationId;
use super::identifier::Field;
use super::key::Key;
use super::observation::Keys;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Observations, each of which shares an identifier with the next: one identifier fewer than
/// observations.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    pub observations: Vec<Chained>,
    pub shared: Vec<SharedIdentifier>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Chained {
    pub id: ObservationId,
    /// Whether the two ends fall apart without it. `false` for the ends themselves.
    pub is_bridge: bool,
}

/// An identifier that two neighbours in a chain share.
#[derive(Debug, PartialEq, Eq)]
pub struct SharedIdentifier {
    pub field: Field,
    pub key: Key,
    /// Number of contacts that have it.
    pub contacts_len: usize,
    /// Whether the two ends would fall apart if it never linked.
    pub is_bridge: bool,
}

/// An identifier that two observations have and that never links.
#[derive(Debug, PartialEq, Eq)]
pub struct Unlinked {
    pub field: Field,
    pub key: Key,
    /// Number of contacts that have it, of all that are known.
    pub contacts_len: usize,
    /// The oldest observation on either side that has it.
    pub observations: [ObservationId; 2],
}

/// Observations by their keys under the same rules.
pub type Keyed = BTreeMap<ObservationId, Keys>;

/// The shortest chain from one observation to another; of several, the one through the oldest. `None` if
/// no chain leads there. `is_contact` says which observations count as contacts.
pub fn chain(
    keyed: &Keyed,
    [from, to]: [ObservationId; 2],
    is_contact: impl Fn(ObservationId) -> bool,
) -> Option<Chain> {
    let graph = Graph::of(keyed);
    let (from, to) = (graph.place(from)?, graph.place(to)?);
    let path = graph.shortest_path(from, to)?;
    let is_bridge = graph.bridges(&path);
    let mut chain = Chain { observations: Vec::new(), shared: Vec::new() };
    for (node, is_bridge) in path.into_iter().zip(is_bridge) {
        match graph.identifier(node) {
            None => chain.observations.push(Chained { id: graph.ids[node], is_bridge }),
            Some((field, key)) => {
                let observations = graph.neighbours[node].iter().map(|node| graph.ids[*node]);
                let contacts_len = observations.filter(|id| is_contact(*id)).count();
                chain.shared.push(SharedIdentifier {
                    field,
                    key: key.clone(),
                    contacts_len,
                    is_bridge,
                });
            }
        }
    }
    Some(chain)
}

/// The identifiers that never link and that observations on both sides have.
pub fn unlinked(
    [one_side, other_side]: [&Keyed; 2],
    all: &Keyed,
    is_contact: impl Fn(ObservationId) -> bool,
) -> Vec<Unlinked> {
    let other = oldest_unlinked(other_side);
    let mut contacts_len = HashMap::new();
    for (_, keys) in all.iter().filter(|(id, _)| is_contact(**id)) {
        keys.each().for_each(|identifier| *contacts_len.entry(identifier).or_default() += 1);
    }
    let shared = oldest_unlinked(one_side).into_iter().filter_map(|((field, key), one)| {
        let other = *other.get(&(field, key))?;
        let contacts_len = contacts_len.get(&(field, key)).copied().unwrap_or_default();
        Some(Unlinked { field, key: key.clone(), contacts_len, observations: [one, other] })
    });
    shared.collect()
}

fn oldest_unlinked(keyed: &Keyed) -> BTreeMap<(Field, &Key), ObservationId> {
    let mut oldest = BTreeMap::new();
    for (id, keys) in keyed {
        for (field, key) in keys.each().filter(|(_, key)| !key.is_link()) {
            oldest.entry((field, key)).or_insert(*id);
        }
    }
    oldest
}

/// Observations and the identifiers that link them, as the nodes of one graph. An observation is a
/// neighbour of its identifiers. Observations come first, in order of their numbers.
struct Graph<'a> {
    ids: Vec<ObservationId>,
    identifiers: Vec<(Field, &'a Key)>,
    neighbours: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn of(keyed: &'a Keyed) -> Self {
        let ids: Vec<_> = keyed.keys().copied().collect();
        let mut graph =
            Self { neighbours: vec![Vec::new(); ids.len()], ids, identifiers: Vec::new() };
        let mut places = HashMap::new();
        for (node, keys) in keyed.values().enumerate() {
            for identifier in keys.each().filter(|(_, key)| key.is_link()) {
                let place = *places.entry(identifier).or_insert_with(|| {
                    graph.identifiers.push(identifier);
                    graph.neighbours.push(Vec::new());
                    graph.neighbours.len() - 1
                });
                graph.neighbours[node].push(place);
                graph.neighbours[place].push(node);
            }
        }
        graph
    }

    fn place(&self, id: ObservationId) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The identifier of a node, or `None` if the node is an observation.
    fn identifier(&self, node: usize) -> Option<(Field, &Key)> {
        self.identifiers.get(node.checked_sub(self.ids.len())?).copied()
    }

    /// Searches breadth first, and tries an identifier's observations from the oldest on.
    fn shortest_path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut came_from = vec![None; self.neighbours.len()];
        came_from[from] = Some(from);
        let mut waiting = VecDeque::from([from]);
        while let Some(node) = waiting.pop_front() {
            if node == to {
                return Some(walked(&came_from, from, to));
            }
            for next in &self.neighbours[node] {
                if came_from[*next].is_none() {
                    came_from[*next] = Some(node);
                    waiting.push_back(*next);
                }
            }
        }
        None
    }

    /// Which nodes of a path are on every path between its ends, the ends left out.
    ///
    /// Goes along the path, and from each of its nodes to all that can be reached off the path, and keeps
    /// how far along the path that leads. A node is a bridge if nothing before it leads beyond it. Each
    /// node and neighbour is looked at once.
    fn bridges(&self, path: &[usize]) -> Vec<bool> {
        let on_path: HashMap<_, _> = path.iter().copied().zip(0..).collect();
        let mut seen = vec![false; self.neighbours.len()];
        let mut furthest = 0;
        let mut is_bridge = vec![false; path.len()];
        for (n, node) in path.iter().enumerate() {
            is_bridge[n] = n > 0 && n + 1 < path.len() && furthest <= n;
            let mut waiting = vec![*node];
            while let Some(node) = waiting.pop() {
                for next in &self.neighbours[node] {
                    match on_path.get(next) {
                        Some(place) => furthest = furthest.max(*place),
                        None if !std::mem::replace(&mut seen[*next], true) => waiting.push(*next),
                        None => {}
                    }
                }
            }
        }
        is_bridge
    }
}

/// The path that a search has taken, which knows from where it came to each node.
fn walked(came_from: &[Option<usize>], from: usize, to: usize) -> Vec<usize> {
    let mut path = vec![to];
    let mut node = to;
    while node != from {
        node = came_from[node].expect("every node but the first was come to from another");
        path.push(node);
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a@x 1 | b@x 1` are observations 1 and 2 by their keys. A key with a `!` never links.
    fn keyed(text: &str) -> Keyed {
        let key = |word: &str| match word.strip_prefix('!') {
            Some(word) => Key::never_links(word),
            None => Key::links(word),
        };
        let keys = |text: &str| {
            let words: Vec<_> = text.split(' ').collect();
            let find = |is_email| words.iter().find(|word| word.contains('@') == is_email);
            Keys {
                email: find(true).map(|word| key(word)),
                phone_number: find(false).map(|word| key(word)),
            }
        };
        text.split(" | ").zip(1..).map(|(text, n)| (ObservationId::new(n), keys(text))).collect()
    }

    /// `1 -a@x- 2` is a chain. What is a bridge has a `=` instead: `1 =a@x= =2= -7- 3`.
    fn told(chain: Option<Chain>) -> String {
        let Some(chain) = chain else { return "apart".to_owned() };
        let mut words = Vec::new();
        let mut shared = chain.shared.iter();
        for Chained { id, is_bridge } in &chain.observations {
            words.push(if *is_bridge { format!("={id}=") } else { id.to_string() });
            words.extend(shared.next().map(
                |SharedIdentifier { key, is_bridge, .. }| match is_bridge {
                    true => format!("={}=", key.as_str()),
                    false => format!("-{}-", key.as_str()),
                },
            ));
        }
        words.join(" ")
    }

    #[track_caller]
    fn check(given: &str, from: i64, to: i64, expected: &str) {
        let ends = [from, to].map(ObservationId::new);
        assert_eq!(told(chain(&keyed(given), ends, |_| true)), expected);
    }

    #[test]
    fn a_chain_goes_from_one_shared_identifier_to_the_next() {
        check("a@x 1 | b@x 1", 1, 2, "1 =1= 2");
        check("a@x 1 | b@x 1", 2, 1, "2 =1= 1");
        check("a@x 1 | b@x 1 | b@x 2", 1, 3, "1 =1= =2= =b@x= 3");
        check("a@x 1", 1, 1, "1");
    }

    #[test]
    fn whoever_shares_an_identifier_is_counted_where_it_is_a_contact() {
        let [one, two, three] = [1, 2, 3].map(ObservationId::new);
        let found = chain(&keyed("a@x 1 | b@x 1 | b@x 1 | b@x 2"), [one, three], |id| id != two);
        let contacts_len: Vec<_> = found.unwrap().shared.iter().map(|it| it.contacts_len).collect();
        assert_eq!(contacts_len, [2]);
    }

    #[test]
    fn an_observation_that_introduced_nothing_can_be_the_link() {
        check("a@x 1 | b@x 2 | a@x 2", 1, 2, "1 =a@x= =3= =2= 2");
    }

    #[test]
    fn what_can_be_gone_around_is_no_bridge() {
        check("a@x 1 | a@x 1", 1, 2, "1 -a@x- 2");
        check("a@x 1 | b@x 2 | a@x 2 | b@x 1", 1, 2, "1 -a@x- 3 -2- 2");
        check("a@x 1 | a@x 2 | a@x 2 | b@x 2", 1, 4, "1 =a@x= 2 =2= 4");
    }

    #[test]
    fn of_two_ways_the_shorter_is_told_and_of_two_short_ones_the_older() {
        check("a@x 1 | b@x 1 | b@x 2 | c@x 2 | c@x a@x", 1, 3, "1 =1= =2= =b@x= 3");
        check("a@x 1 | a@x 2 | a@x 2 | 2", 1, 4, "1 =a@x= 2 =2= 4");
    }

    #[test]
    fn a_value_that_never_links_leads_nowhere_and_is_told_of_both_sides() {
        check("!a@x 1 | !a@x 2", 1, 2, "apart");
        check("a@x | 1", 1, 2, "apart");
        let all = keyed("!a@x 1 | !a@x 1 | !a@x 2 | b@x 3");
        let (one, other): (Keyed, Keyed) =
            all.clone().into_iter().partition(|(id, _)| id.get() < 3);
        let found = unlinked([&one, &other], &all, |id| id.get() != 2);
        let expected = Unlinked {
            field: Field::Email,
            key: Key::never_links("a@x"),
            contacts_len: 2,
            observations: [ObservationId::new(1), ObservationId::new(3)],
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn an_email_and_a_phone_number_are_never_one_identifier() {
        let keys = |email: Option<&str>, number: Option<&str>| Keys {
            email: email.map(Key::links),
            phone_number: number.map(Key::links),
        };
        let [one, two] = [1, 2].map(ObservationId::new);
        let keyed = Keyed::from([(one, keys(Some("1"), None)), (two, keys(None, Some("1")))]);
        assert_eq!(chain(&keyed, [one, two], |_| true), None);
    }

    /// What is said to be a bridge is one, and nothing else is: tried by taking it away.
    #[test]
    fn bridges_are_what_cannot_be_taken_away() {
        let mut random = fastrand::Rng::with_seed(61);
        for _ in 0..300 {
            let text: Vec<_> =
                (0..12).map(|_| format!("{}@x {}", random.u8(0..7), random.u8(0..7))).collect();
            let all = keyed(&text.join(" | "));
            let ends = [1, 12].map(ObservationId::new);
            let leads = |keyed: &Keyed| chain(keyed, ends, |_| true);
            let Some(found) = leads(&all) else { continue };
            for chained in found.observations.iter().filter(|it| !ends.contains(&it.id)) {
                let mut without = all.clone();
                without.remove(&chained.id);
                assert_eq!(leads(&without).is_none(), chained.is_bridge, "{text:?}");
            }
            for shared in &found.shared {
                let mut without = all.clone();
                let keep = |key: &Key| *key != shared.key;
                for keys in without.values_mut() {
                    match shared.field {
                        Field::Email => keys.email = keys.email.take().filter(keep),
                        Field::PhoneNumber => {
                            keys.phone_number = keys.phone_number.take().filter(keep);
                        }
                    }
                }
                assert_eq!(leads(&without).is_none(), shared.is_bridge, "{text:?}");
            }
        }
    }
}
