//! A table of runs. They are numbered as they begin, so what is new goes to the end of a list that is searched by halves:
//! half of the memory of a tree, whose nodes stay half full when keys only grow.

use super::RunId;

/// See the module. Of those that were removed the places stay until they are more than half of all.
#[derive(Debug)]
pub struct Runs<T> {
    places: Vec<(RunId, Option<T>)>,
    len: usize,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Runs { places: Vec::new(), len: 0 }
    }
}

impl<T> Runs<T> {
    /// Empty places that are not worth the walk.
    const EMPTY_MIN: usize = 32;

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a run, which mostly is later than all others.
    pub fn insert(&mut self, run: RunId, value: T) {
        let end = self.places.len();
        let is_last = self.places.last().is_none_or(|(last, _)| *last < run);
        match if is_last { Err(end) } else { self.find(run) } {
            Ok(place) => self.len += usize::from(self.places[place].1.replace(value).is_none()),
            Err(place) => {
                self.places.insert(place, (run, Some(value)));
                self.len += 1;
            }
        }
    }

    /// What is kept of a run.
    pub fn get(&self, run: RunId) -> Option<&T> {
        self.places[self.find(run).ok()?].1.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, run: RunId) -> Option<&mut T> {
        let place = self.find(run).ok()?;
        self.places[place].1.as_mut()
    }

    /// Removes a run.
    pub fn remove(&mut self, run: RunId) -> Option<T> {
        let place = self.find(run).ok()?;
        let removed = self.places[place].1.take()?;
        self.len -= 1;
        if self.places.len() > 2 * self.len + Self::EMPTY_MIN {
            self.places.retain(|(_, value)| value.is_some());
            self.places.shrink_to(2 * self.len);
        }
        Some(removed)
    }

    /// Every run, the earliest first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|(_, value)| value.as_ref())
    }

    fn find(&self, run: RunId) -> Result<usize, usize> {
        self.places.binary_search_by_key(&run, |(run, _)| *run)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::proto::hash::fmix64 as mix;

    /// Goal: the table is an ordered map that keeps no more than twice as many places as it has runs, and some. Method:
    /// pseudo-random additions, removals and changes, growing and then shrinking, compared with a `BTreeMap`.
    #[test]
    fn runs_are_an_ordered_map_without_many_gaps() {
        let (mut runs, mut model) = (Runs::default(), BTreeMap::new());
        for step in 0..20_000u64 {
            let draw = mix(step);
            let any = RunId(mix(draw) % (step + 1));
            let is_growing = step < 10_000;
            if draw.is_multiple_of(4) != is_growing {
                // Now and then an earlier one.
                let run = if draw % 64 < 8 { any } else { RunId(step) };
                runs.insert(run, step);
                model.insert(run, step);
            } else {
                assert_eq!(runs.remove(any), model.remove(&any));
            }
            assert_eq!(runs.get(any), model.get(&any));
            if let Some(value) = runs.get_mut(any) {
                *value += 1;
                *model.get_mut(&any).unwrap() += 1;
            }
            assert_eq!(runs.len(), model.len());
            assert!(runs.places.len() <= 2 * runs.len() + Runs::<u64>::EMPTY_MIN);
        }
        assert!(runs.values().eq(model.values()));
    }
}
