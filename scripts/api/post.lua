-- For wrk: posts a body in which each request has other pixels, so that no answer is remembered.
-- BODY names a file, HEADERS has lines "Name: value", and PIXELS is where in the body the pixels begin.
local file = assert(io.open(os.getenv("BODY"), "rb"))
local body = file:read("*a")
file:close()
local pixels = tonumber(os.getenv("PIXELS"))
local every = tonumber(os.getenv("EVERY"))
local threads = 0

wrk.method = "POST"
for name, value in (os.getenv("HEADERS") or ""):gmatch("([^\n:]+): ([^\n]+)") do
    wrk.headers[name] = value
end

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init()
    math.randomseed(os.time() + number)
end

function request()
    -- Six bytes of each picture: more values than any run has requests.
    local parts, at = { body:sub(1, pixels) }, pixels
    while at < #body do
        local bytes = {}
        for _ = 1, 6 do bytes[#bytes + 1] = string.char(math.random(0, 255)) end
        parts[#parts + 1] = table.concat(bytes)
        parts[#parts + 1] = body:sub(at + 7, at + every)
        at = at + every
    end
    return wrk.format(nil, nil, nil, table.concat(parts))
end

function done(summary, latency)
    io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), summary.errors.status + summary.errors.read + summary.errors.timeout + summary.errors.connect))
end
