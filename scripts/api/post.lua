-- For wrk: posts bodies in turn, made before it begins, so that what it costs to ask is as little as it can be.
-- BODIES names a file that has them one after the other, beside which FILE.sizes has the length of each in a line; HEADERS has lines
-- "Name: value".
local path = os.getenv("BODIES")
local requests, at = {}, 0

wrk.method = "POST"
for name, value in (os.getenv("HEADERS") or ""):gmatch("([^\n:]+): ([^\n]+)") do
    wrk.headers[name] = value
end

function init()
    local file = assert(io.open(path, "rb"))
    for size in io.lines(path .. ".sizes") do
        requests[#requests + 1] = wrk.format(nil, nil, nil, file:read(tonumber(size)))
    end
    file:close()
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), summary.errors.status + summary.errors.read + summary.errors.timeout + summary.errors.connect))
end
