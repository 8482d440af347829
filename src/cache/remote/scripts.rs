//! What Redis is asked to do as one step, in Lua.
//!
//! The state of a deployment is two hashes with one hash tag. `versions` has `life`, `born`, `digest` and a field for each
//! cell: a token of 16 hex digits, or `!` and the marks on it, `<mark>=<expiry in ms of Redis's clock>`, with commas
//! between. `marks` has `life` and a field for each mark: `<expiry> <digest> <sender> <cells of the sender's table>`.
//!
//! Every script sees for itself which process it runs in: `life` is the process's run id with its replication id. A state
//! that was written in another life may lack marks that were acknowledged (a restart from disk, a replica that was
//! promoted), and is dropped, in the same step. A server's first replica gives it another replication id, which costs a
//! state and is no loss. INFO is what says all this, so a user of Redis needs leave for INFO.
//!
//! Every script is called with the same head: channel, sender, lease in ms, a token that was never used, the caller's
//! digest. Every answer begins with life and birth, and one word.

use redis::Script;

/// All of them, with their hashes.
pub(super) struct Scripts {
    /// `mark, cells of the table, cells …`: a write is about to begin.
    pub(super) mark: Script,
    /// `mark, "over" or "never", cells …`: it is over, or was never sent.
    pub(super) unmark: Script,
    /// `mark, cells …`: it is still on its way.
    pub(super) renew: Script,
    /// `cells …`: their tokens.
    pub(super) look: Script,
    /// Statements are planned by this digest from now on.
    pub(super) snapshot: Script,
    /// `cells of the table, cells …`: they have changed.
    pub(super) change: Script,
    /// All marks; what has expired is forgotten.
    pub(super) live: Script,
    /// How it stands.
    pub(super) state: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{HEAD}{body}"));
        Self {
            mark: script(MARK),
            unmark: script(UNMARK),
            renew: script(RENEW),
            look: script(LOOK),
            snapshot: script(SNAPSHOT),
            change: script(CHANGE),
            live: script(LIVE),
            state: script(STATE),
        }
    }
}

impl Scripts {
    pub(super) fn all(&self) -> [&Script; 8] {
        [
            &self.mark,
            &self.unmark,
            &self.renew,
            &self.look,
            &self.snapshot,
            &self.change,
            &self.live,
            &self.state,
        ]
    }
}

const HEAD: &str = r"
local versions, marks = KEYS[1], KEYS[2]
local channel, sender, lease, random, digest =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number) return string.format('%.0f', number) end

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local line = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not run or not line then
  return redis.error_reply('KEYWAY this server does not say which process it is')
end
local life = run .. ':' .. line
local state = redis.call('HMGET', versions, 'life', 'born', 'digest')
local born, agreed = state[2], state[3]
if state[1] ~= life or not born or redis.call('HGET', marks, 'life') ~= life then
  redis.call('DEL', versions, marks)
  born, agreed = whole(now), false
  redis.call('HSET', versions, 'life', life, 'born', born)
  redis.call('HSET', marks, 'life', life)
end

-- The marks on a cell that have not expired, but for one; and whether that one is there.
local function alive(cell, but)
  local value = redis.call('HGET', versions, cell)
  local others, there = {}, false
  if value and string.sub(value, 1, 1) == '!' then
    for mark, till in string.gmatch(value, '([%x.]+)=(%d+)') do
      if tonumber(till) > now then
        if mark == but then there = true else others[#others + 1] = mark .. '=' .. till end
      end
    end
  end
  return others, there
end

-- The marks on a cell from now on; without any, it has changed.
local function set(cell, on)
  if #on == 0 then
    redis.call('HSET', versions, cell, random)
  else
    redis.call('HSET', versions, cell, '!' .. table.concat(on, ','))
  end
end

local function rest(from)
  local cells, everything = {}, false
  for at = from, #ARGV do
    cells[#cells + 1] = ARGV[at]
    if ARGV[at] == '0' then everything = true end
  end
  return cells, everything
end

local function answer(word) return {life .. '@' .. born, word} end
";

/// Whoever plans by another digest than the others may mean other cells by the same names: it marks everything.
const MARK: &str = r"
local mark, told = ARGV[6], ARGV[7]
local cells, everything = rest(8)
if digest ~= agreed and not everything then
  cells[#cells + 1] = '0'
  told = '0,' .. told
end
local till = whole(now + lease)
for _, cell in ipairs(cells) do
  local on = alive(cell, mark)
  on[#on + 1] = mark .. '=' .. till
  set(cell, on)
end
redis.call('HSET', marks, mark, till .. ' ' .. digest .. ' ' .. sender .. ' ' .. told)
redis.call('PUBLISH', channel,
  'm ' .. sender .. ' ' .. mark .. ' ' .. whole(lease) .. ' ' .. digest .. ' ' .. told)
return answer('ok')
";

/// A mark that is not there any more has expired while the write was on its way. What was seen meanwhile is void, on
/// the cells and, as nobody knows whether it was there too, on everything.
const UNMARK: &str = r"
local mark, wrote = ARGV[6], ARGV[7] == 'over'
local cells, everything = rest(8)
local entry = redis.call('HGET', marks, mark)
local known = entry and tonumber(string.match(entry, '^(%d+) ')) > now
redis.call('HDEL', marks, mark)
for _, cell in ipairs(cells) do
  local others, there = alive(cell, mark)
  if there or wrote then set(cell, others) end
end
if not everything then
  local others, there = alive('0', mark)
  if there or (wrote and not known) then set('0', others) end
end
redis.call('PUBLISH', channel, 'u ' .. sender .. ' ' .. mark)
if wrote and not known then
  redis.call('PUBLISH', channel, 'c ' .. sender .. ' 0')
end
return answer('ok')
";

const RENEW: &str = r"
local mark = ARGV[6]
local cells, everything = rest(7)
local entry = redis.call('HGET', marks, mark)
if not entry then return answer('lapsed') end
local till, about = string.match(entry, '^(%d+) (.*)$')
if tonumber(till) <= now then return answer('lapsed') end
till = whole(now + lease)
if not everything then
  local others, there = alive('0', mark)
  if there then
    others[#others + 1] = mark .. '=' .. till
    set('0', others)
  end
end
for _, cell in ipairs(cells) do
  local on, there = alive(cell, mark)
  if not there then return answer('lapsed') end
  on[#on + 1] = mark .. '=' .. till
  set(cell, on)
end
redis.call('HSET', marks, mark, till .. ' ' .. about)
redis.call('PUBLISH', channel, 'r ' .. sender .. ' ' .. mark .. ' ' .. whole(lease))
return answer('ok')
";

/// In the first lease of a state, writers may still count on marks of the life before.
const LOOK: &str = r"
if digest ~= agreed then return answer('other') end
if now < tonumber(born) + lease then return answer('unsettled') end
local seen = answer('clean')
for _, cell in ipairs((rest(6))) do
  local value = redis.call('HGET', versions, cell)
  if not value or #value ~= 16 or string.sub(value, 1, 1) == '!' then
    local on = alive(cell)
    if #on > 0 then return answer('marked') end
    set(cell, on)
    value = random
  end
  seen[#seen + 1] = value
end
return seen
";

/// Marks that were made by another digest are marks on everything now: their cells may be called otherwise.
const SNAPSHOT: &str = r"
if agreed == digest then return answer('ok') end
redis.call('HSET', versions, 'digest', digest)
local on, there = alive('0'), {}
for _, one in ipairs(on) do there[string.match(one, '^(.-)=')] = true end
local all = redis.call('HGETALL', marks)
for at = 1, #all, 2 do
  local till, by, who, told = string.match(all[at + 1], '^(%d+) (%x+) (%x+) (.*)$')
  if till then
    local mark = all[at]
    if tonumber(till) <= now then
      redis.call('HDEL', marks, mark)
    else
      if not there[mark] then on[#on + 1] = mark .. '=' .. till end
      if told ~= '0' and string.sub(told, 1, 2) ~= '0,' then
        told = '0,' .. told
        redis.call('HSET', marks, mark, till .. ' ' .. by .. ' ' .. who .. ' ' .. told)
        redis.call('PUBLISH', channel, 'm ' .. who .. ' ' .. mark .. ' '
          .. whole(tonumber(till) - now) .. ' ' .. by .. ' ' .. told)
      end
    end
  end
end
set('0', on)
redis.call('PUBLISH', channel, 's ' .. sender .. ' ' .. digest)
return answer('ok')
";

const CHANGE: &str = r"
for _, cell in ipairs((rest(7))) do set(cell, (alive(cell))) end
redis.call('PUBLISH', channel, 'c ' .. sender .. ' ' .. ARGV[6])
return answer('ok')
";

const LIVE: &str = r"
local found = answer('ok')
local all = redis.call('HGETALL', marks)
for at = 1, #all, 2 do
  local till, by, who, told = string.match(all[at + 1], '^(%d+) (%x+) (%x+) (.*)$')
  if till then
    local left = tonumber(till) - now
    if left <= 0 then
      redis.call('HDEL', marks, all[at])
    else
      found[#found + 1] = 'm ' .. who .. ' ' .. all[at] .. ' ' .. whole(left) .. ' ' .. by .. ' ' .. told
    end
  end
end
return found
";

const STATE: &str = r"
local said = answer(now < tonumber(born) + lease and 'unsettled' or 'settled')
said[3] = agreed or ''
return said
";
