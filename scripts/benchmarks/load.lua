-- For wrk: posts the lines of a file ("path body"), each once. Arguments: the file, and a path for all of them or "-".
local lines, path

function init(args)
   lines, path = io.open(args[1], "rb"), args[2] ~= "-" and args[2] or nil
end

function request()
   local line = lines:read("*l")
   if not line then
      lines:seek("set")
      line = lines:read("*l")
   end
   local space = line:find(" ", 1, true)
   local body = line:sub(space + 1)
   return "POST " .. (path or line:sub(1, space - 1)) .. " HTTP/1.1\r\nHost: receiver.test\r\n"
      .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "slowest_ms": %.3f, "refused": %d, "broken": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      latency.max / 1e3, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
