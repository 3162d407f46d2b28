-- wrk -s load.lua URL -- TOKENS N HOST: sends the first N tokens of a file in a shuffled order.
local requests, next_one = {}, 0

function init(args)
  local limit = tonumber(args[2])
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("GET", "/orders/42?expand=items", {
      ["Host"] = args[3], ["User-Agent"] = "wrk/4", ["Accept"] = "application/json",
      ["Authorization"] = "Bearer " .. line })
    if #requests >= limit then break end
  end
  math.randomseed(42)
  for one = #requests, 2, -1 do
    local other = math.random(one)
    requests[one], requests[other] = requests[other], requests[one]
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT requests=%d us=%d status=%d broken=%d p50=%d p90=%d p99=%d\n",
    summary.requests, summary.duration, errors.status,
    errors.read + errors.write + errors.connect + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
