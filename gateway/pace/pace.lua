-- The pace in Redis: gateway/quotas/dealing.py over keys that begin with KEYS[1], on Redis' own time.
-- All of them stand under one hash tag, so that one script may touch them; which ones it needs is found on the way.
--
--   KEYS[1]:epoch  the epoch that grants; an older one gets nothing and changes nothing
--   KEYS[1]:run    the server's run id: after a restart from its file every meter is new
--   KEYS[1]:m:…    a meter: tat, per_s, burst, version, at, seen, changed, then the epoch and run it belongs to
--   KEYS[1]:p:…    a pool: epoch and run, time, dealt, {tenant, time, owed normal, owed bulk, tenant, …}
--   KEYS[1]:claims worker → at, then words, claims, wants: flat lists, for tables are what costs
--                  claims {pool, tenant, weight, lane, count, segments, paces, pace, …, pool, …}, wants {pace, units, …};
--                  pool, tenant and pace are places among the words, a pace that counts segments a negative one
--
-- ARGV[1] take | room, ARGV[2] JSON. Answers nothing to an older epoch, else for a take the start times of each group
-- ("0,20000;;400"), for a room the units of each pace ("3,0"). ARGV[1] probe: writes, and answers the epoch.
-- Instants are µs since 2025.

local AHEAD, ROOM, CLAIM, STALE, CALM, FORGET = 100000, 1000000, 250000, 10000000, 2000000, 60000000
local NORMAL, BULK, OWED_MOST = 0.10, 0.05, 2
local KEEP_MS = 3600000
local floor, ceil, max, min, abs = math.floor, math.ceil, math.max, math.min, math.abs

local prefix = KEYS[1]
if ARGV[1] == 'probe' then
  redis.call('SET', prefix .. ':probe', '', 'PX', 1000)
  return redis.call('GET', prefix .. ':epoch') or '0'
end

local asked = cjson.decode(ARGV[2])
local stamp = redis.call('TIME')
local now = (tonumber(stamp[1]) - 1735689600) * 1000000 + tonumber(stamp[2])
local empty_at = now + AHEAD -- what was forgotten may have granted until then

local function generation()
  local held = tonumber(redis.call('GET', prefix .. ':epoch') or '0')
  if asked.epoch < held then
    return nil
  end
  if asked.epoch > held then
    redis.call('SET', prefix .. ':epoch', string.format('%.0f', asked.epoch))
    redis.call('DEL', prefix .. ':claims')
  end
  local run = redis.call('GET', prefix .. ':run')
  if not run then
    run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    redis.call('SET', prefix .. ':run', run)
  end
  return string.format('%.0f', asked.epoch) .. '|' .. run
end

local generated = generation()
if not generated then
  return false
end

local gauges = {} -- by key

local function read(key)
  local kept = redis.call('GET', prefix .. ':m:' .. key)
  if kept and string.sub(kept, 57) == generated then
    local tat, per_s, burst, version, at, seen, changed = struct.unpack('<ddddddd', kept)
    return {
      key = key, tat = tat, per_s = per_s, burst = burst, version = version, at = at, seen = seen, changed = changed,
    }
  end
end

local function measure(gauge)
  gauge.unit = 1000000 / gauge.per_s
  gauge.back = (gauge.burst - 1) * gauge.unit
  gauge.real = max(gauge.tat, now)
  gauge.work = gauge.real
  gauge.last = now + AHEAD + gauge.back
end

-- The pace's meter, brought to now and to the newest version known of it.
local function meet(key, per_s, burst, version)
  local unit = 1000000 / per_s
  local meter = gauges[key] or read(key)
  if not meter then
    gauges[key] = {
      key = key, tat = empty_at + burst * unit, per_s = per_s, burst = burst, version = version,
      at = now, seen = now, changed = now,
    }
    return
  end
  gauges[key] = meter
  if now < meter.at then
    meter.tat = meter.tat + (now - meter.at)
    meter.seen, meter.changed = min(meter.seen, now), min(meter.changed, now)
  end
  meter.at = now
  meter.tat = max(meter.tat, now)
  if version >= meter.version or now - meter.seen > STALE then
    if per_s ~= meter.per_s or burst ~= meter.burst then
      local saved = meter.burst - (meter.tat - now) * meter.per_s / 1000000
      if saved > 0 then
        saved = saved * burst / meter.burst
      elseif per_s < meter.per_s and now - meter.changed >= CALM then
        saved = saved * per_s / meter.per_s
      end
      meter.tat, meter.changed = now + (burst - saved) * unit, now
    end
    meter.per_s, meter.burst, meter.version, meter.seen = per_s, burst, version, now
  end
end

local function meet_all(paces)
  local met = {}
  for i, pace in ipairs(paces) do
    meet(pace[1], pace[2], pace[3], pace[4])
  end
  for i, pace in ipairs(paces) do
    met[i] = gauges[pace[1]]
    measure(met[i])
  end
  return met
end

local function keep(meter)
  redis.call(
    'SET', prefix .. ':m:' .. meter.key,
    struct.pack(
      '<ddddddd', meter.tat, meter.per_s, meter.burst, meter.version, meter.at, meter.seen, meter.changed
    ) .. generated,
    'PX', string.format('%.0f', KEEP_MS + ceil((meter.tat - now + meter.burst * meter.unit) / 1000))
  )
end

local function units_until(gauge, instant)
  return floor((instant + gauge.back - gauge.work) / gauge.unit) + 1
end

-- Claims that still count, by worker in the order of their names; those long gone are dropped.
local function read_claims()
  local found, kept = {}, redis.call('HGETALL', prefix .. ':claims')
  for i = 1, #kept, 2 do
    local at = struct.unpack('<d', kept[i + 1])
    if abs(now - at) <= CLAIM then
      local words, claims, wants = cmsgpack.unpack(string.sub(kept[i + 1], 9))
      found[#found + 1] = { worker = kept[i], words = words, claims = claims, wants = wants }
    elseif abs(now - at) > FORGET then
      redis.call('HDEL', prefix .. ':claims', kept[i])
    end
  end
  table.sort(found, function(a, b) return a.worker < b.worker end)
  return found
end

local function room()
  local found, others = {}, read_claims()
  local met = meet_all(asked.paces)
  local claimed = {}
  for _, each in ipairs(others) do
    if each.worker ~= asked.worker then
      for i = 1, #each.wants, 2 do
        local key = each.words[each.wants[i]]
        claimed[key] = (claimed[key] or 0) + each.wants[i + 1]
      end
    end
  end
  for i, gauge in ipairs(met) do
    found[i] = string.format('%.0f', max(0, floor(units_until(gauge, now + ROOM) - (claimed[gauge.key] or 0))))
  end
  for _, gauge in pairs(gauges) do
    keep(gauge)
  end
  return table.concat(found, ',')
end

if ARGV[1] == 'room' then
  return room()
end

local met = meet_all(asked.paces)
local starts, pools, active, claimed = {}, {}, {}, {}

-- Groups and claims by pool. A group: pool, tenant, weight, lane, places of its paces, count or segments of each.
local function lay_out()
  local order = {}
  for place, group in ipairs(asked.groups) do
    starts[place] = {}
    local pool, some = pools[group[1]], group[6] ~= 0
    if some and not pool then
      local kept = redis.call('GET', prefix .. ':p:' .. group[1])
      pool = { name = group[1], time = 0, dealt = 0, shares = {}, own = {} }
      if kept then
        local of, time, dealt, shares = cmsgpack.unpack(kept)
        if of == generated then
          pool.time, pool.dealt = time, dealt
          for i = 1, #shares, 4 do
            pool.shares[shares[i]] = { shares[i + 1], shares[i + 2], shares[i + 3] }
          end
        end
      end
      pools[group[1]] = pool
      order[#order + 1] = pool
    end
    if some then
      pool.own[#pool.own + 1] = place
    end
  end
  for _, each in ipairs(read_claims()) do
    local words, claims, other, i = each.words, each.claims, each.worker ~= asked.worker, 1
    while claims[i] do
      local name = words[claims[i]]
      if pools[name] then
        active[name] = active[name] or {}
        active[name][words[claims[i + 1]]] = true
        if other then
          claimed[name] = claimed[name] or {}
          table.insert(claimed[name], { each, i })
        end
      end
      i = i + 7 + claims[i + 6]
    end
  end
  table.sort(order, function(a, b)
    return a.dealt < b.dealt or (a.dealt == b.dealt and a.name < b.name)
  end)
  return order
end

local function hand_of(hands, list, pool, tenant, weight)
  local hand = hands[tenant]
  if not hand then
    local share = pool.shares[tenant]
    if not share then
      share = { pool.time, 0, 0 }
      pool.shares[tenant] = share
    end
    if not (active[pool.name] and active[pool.name][tenant]) then
      share[1] = max(share[1], pool.time)
    end
    hand = { name = tenant, share = share, step = 1 / weight, work = { share[1], share[2], share[3] } }
    for lane = 0, 2 do
      hand[lane] = { first = 1, last = 0, others = {}, other = 1 }
    end
    hands[tenant] = hand
    list[#list + 1] = hand
  end
  return hand
end

-- The tenants that wait in a pool, how many groups are the caller's, and how many of these each gauge covers.
local function hands_of(pool)
  local hands, list, own, covers = {}, {}, 0, {}
  for _, place in ipairs(pool.own) do
    local group = asked.groups[place]
    local lane = hand_of(hands, list, pool, group[2], group[3])[group[4]]
    local counted, sizes = {}, group[6]
    for i, pace in ipairs(group[5]) do
      local gauge = met[pace + 1]
      counted[2 * i - 1], counted[2 * i] = gauge, asked.paces[pace + 1][5]
      covers[gauge] = (covers[gauge] or 0) + 1
    end
    lane.last = lane.last + 1
    if type(sizes) == 'number' then
      lane[lane.last] = { place = place, count = sizes, given = 0, counted = counted }
    else
      lane[lane.last] = { place = place, count = #sizes, sizes = sizes, given = 0, counted = counted }
    end
    own = own + 1
  end
  for _, each in ipairs(claimed[pool.name] or {}) do
    local words, claims, i = each[1].words, each[1].claims, each[2]
    local lane = hand_of(hands, list, pool, words[claims[i + 1]], claims[i + 2])[claims[i + 3]]
    lane.others[#lane.others + 1] = each
  end
  return hands, list, own, covers
end

-- A claim when its turn comes: meters that nobody keeps bar nothing.
local function claim_of(each)
  local words, claims, i = each[1].words, each[1].claims, each[2]
  local counted = {}
  for pace = i + 7, i + 6 + claims[i + 6] do
    local key = words[abs(claims[pace])]
    local gauge = gauges[key]
    if not gauge then
      gauge = read(key)
      if gauge then
        gauge.borrowed = true
        gauges[key] = gauge
        measure(gauge)
      end
    end
    if gauge then
      counted[#counted + 1] = gauge
      counted[#counted + 1] = claims[pace] < 0 and claims[i + 5] or 1
    end
  end
  return { count = claims[i + 4], counted = counted }
end

local function before(a, b)
  local left, right = a.work[1], b.work[1]
  return left < right or (left == right and a.name < b.name)
end

local function sink(heap, count, at)
  local hand = heap[at]
  while true do
    local child = 2 * at
    if child > count then
      break
    end
    local lower = heap[child]
    if child < count and before(heap[child + 1], lower) then
      child = child + 1
      lower = heap[child]
    end
    if before(hand, lower) then
      break
    end
    heap[at] = lower
    at = child
  end
  heap[at] = hand
end

local function waits(lane)
  return lane.first <= lane.last or lane.other <= #lane.others
end

local function charge(share, lane)
  share[2] = min(share[2] + NORMAL, OWED_MOST)
  share[3] = min(share[3] + BULK, OWED_MOST)
  if lane > 0 then
    share[lane + 1] = max(share[lane + 1] - 1, 0)
  end
end

-- The first gauge that lets no more start.
local function shut(counted)
  for i = 1, #counted, 2 do
    if counted[i].work > counted[i].last then
      return counted[i]
    end
  end
end

-- Charge a group's next start to its paces. Many segments may go into debt once the first fits.
local function grant(group)
  local at, counted, given = now, group.counted, group.given + 1
  group.given = given
  for i = 1, #counted, 2 do
    local gauge = counted[i]
    local slot = gauge.real - gauge.back
    if slot > at then
      at = slot
    end
    local spent = gauge.unit
    if group.sizes and counted[i + 1] == 1 then
      spent = group.sizes[given] * spent
    end
    gauge.real = gauge.real + spent
    gauge.work = gauge.work + spent
  end
  starts[group.place][given] = ceil(at - now)
end

local function deal(pool)
  local hands, heap, own, covers = hands_of(pool)
  local all, held_back = own, {}
  local count = #heap
  for at = floor(count / 2), 1, -1 do
    sink(heap, count, at)
  end
  while own > 0 do
    local hand = heap[1]
    local normal, bulk = waits(hand[1]), waits(hand[2])
    local lane
    if bulk and hand.work[3] >= 1 then
      lane = 2
    elseif normal and hand.work[2] >= 1 then
      lane = 1
    elseif waits(hand[0]) then
      lane = 0
    elseif normal then
      lane = 1
    elseif bulk then
      lane = 2
    end
    local line = lane and hand[lane]
    if not line then
      if hand.barred then
        held_back[#held_back + 1] = { hand.share, pool.time }
      end
      heap[1] = heap[count]
      heap[count] = nil
      count = count - 1
      if count > 0 then
        sink(heap, count, 1)
      end
    elseif line.first <= line.last then
      local group = line[line.first]
      line.first = line.first + 1
      local barred = shut(group.counted)
      if barred then
        hand.barred = true
        own = covers[barred] == all and 0 or own - 1
      else
        grant(group)
        pool.time = max(pool.time, hand.share[1])
        pool.dealt = now
        hand.share[1] = hand.share[1] + hand.step
        charge(hand.share, lane)
        hand.work[1] = hand.work[1] + hand.step
        charge(hand.work, lane)
        sink(heap, count, 1)
        if group.given == group.count then
          own = own - 1
        else
          line.last = line.last + 1
          line[line.last] = group
        end
      end
    else
      local other = line.claim or claim_of(line.others[line.other])
      line.claim = other
      if shut(other.counted) then
        line.other, line.claim = line.other + 1, nil
        hand.barred = true
      else
        for i = 1, #other.counted, 2 do
          local gauge = other.counted[i]
          gauge.work = gauge.work + other.counted[i + 1] * gauge.unit
        end
        hand.work[1] = hand.work[1] + hand.step
        charge(hand.work, lane)
        sink(heap, count, 1)
        other.count = other.count - 1
        if other.count == 0 then
          line.other, line.claim = line.other + 1, nil
        end
      end
    end
  end
  for _, held in ipairs(held_back) do -- by its own quota, while others were dealt to: it was as good as idle
    held[1][1] = held[1][1] + (pool.time - held[2])
  end
  local shares = {}
  for tenant, share in pairs(pool.shares) do
    if share[1] > pool.time or hands[tenant] then
      local last = #shares
      shares[last + 1], shares[last + 2], shares[last + 3], shares[last + 4] = tenant, share[1], share[2], share[3]
    end
  end
  redis.call('SET', prefix .. ':p:' .. pool.name, cmsgpack.pack(generated, pool.time, pool.dealt, shares), 'PX', KEEP_MS)
end

-- What this worker was left with: for the dealing of others, and for their rooms what it could still start soon.
local function left_over()
  local words, places, claims, wants = {}, {}, {}, {}
  local function place_of(word)
    local place = places[word]
    if not place then
      place = #words + 1
      words[place], places[word] = word, place
    end
    return place
  end
  for place, group in ipairs(asked.groups) do
    local sizes, given, paces = group[6], #starts[place], group[5]
    local count, mean = 0, 1
    if type(sizes) == 'number' then
      count = sizes - given
    else
      count = #sizes - given
      local sum = 0
      for i = given + 1, #sizes do
        sum = sum + sizes[i]
      end
      mean = sum / count
    end
    if count > 0 then
      local could, last = count, #claims
      claims[last + 1], claims[last + 2] = place_of(group[1]), place_of(group[2])
      claims[last + 3], claims[last + 4], claims[last + 5] = group[3], group[4], count
      claims[last + 6], claims[last + 7] = mean, #paces
      for i, pace in ipairs(paces) do
        local gauge, counts = met[pace + 1], asked.paces[pace + 1][5] == 1
        claims[last + 7 + i] = counts and -place_of(gauge.key) or place_of(gauge.key)
        could = min(could, max(0, floor(units_until(gauge, now + ROOM) / (counts and mean or 1))))
      end
      for _, pace in ipairs(paces) do
        local gauge = met[pace + 1]
        local units = could * (asked.paces[pace + 1][5] == 1 and mean or 1)
        gauge.work = gauge.work + units * gauge.unit
        wants[gauge.key] = (wants[gauge.key] or 0) + units
      end
    end
  end
  local listed = {}
  for key, units in pairs(wants) do
    listed[#listed + 1], listed[#listed + 2] = place_of(key), units
  end
  redis.call(
    'HSET', prefix .. ':claims', asked.worker, struct.pack('<d', now) .. cmsgpack.pack(words, claims, listed)
  )
  redis.call('PEXPIRE', prefix .. ':claims', KEEP_MS)
end

for _, pool in ipairs(lay_out()) do
  deal(pool)
end
for _, gauge in pairs(gauges) do
  if not gauge.borrowed then
    gauge.tat = gauge.real
    keep(gauge)
  end
end
left_over()
for place, given in ipairs(starts) do
  starts[place] = table.concat(given, ',')
end
return table.concat(starts, ';')
