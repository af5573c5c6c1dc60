//! Buffers of a training step that are used again and again, so that the system never has to give fresh pages.
//! In: lengths. Out: numbered buffers with a count of their holders.

/// A buffer's number.
pub type BufferId = usize;

/// All buffers.
#[derive(Default)]
pub struct Buffers {
    all: Vec<Vec<f32>>,
    holders: Vec<usize>,
}

impl Buffers {
    /// A buffer of `len` numbers whatever they are, held once.
    pub fn take(&mut self, len: usize) -> BufferId {
        let free = (0..self.all.len()).filter(|&i| self.holders[i] == 0 && self.all[i].capacity() >= len);
        let id = free.min_by_key(|&i| self.all[i].capacity()).unwrap_or_else(|| {
            self.all.push(Vec::with_capacity(len));
            self.holders.push(0);
            self.all.len() - 1
        });
        self.all[id].resize(len, 0.0);
        self.holders[id] = 1;
        id
    }

    /// One more holder.
    pub fn hold(&mut self, id: BufferId) {
        self.holders[id] += 1;
    }

    /// One holder fewer; without any it is free again.
    pub fn release(&mut self, id: BufferId) {
        self.holders[id] -= 1;
    }

    /// Whether somebody else holds it too.
    pub fn shared(&self, id: BufferId) -> bool {
        self.holders[id] > 1
    }

    /// Its numbers.
    pub fn get(&self, id: BufferId) -> &[f32] {
        &self.all[id]
    }

    /// Its numbers.
    pub fn get_mut(&mut self, id: BufferId) -> &mut [f32] {
        &mut self.all[id]
    }

    /// Takes its numbers out for a while; [`Buffers::put`] them back.
    pub fn lend(&mut self, id: BufferId) -> Vec<f32> {
        std::mem::take(&mut self.all[id])
    }

    /// Puts lent numbers back.
    pub fn put(&mut self, id: BufferId, numbers: Vec<f32>) {
        self.all[id] = numbers;
    }
}
