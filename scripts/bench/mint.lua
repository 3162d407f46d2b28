-- wrk -s mint.lua URL -- FILE N CREDENTIALS: asks a token endpoint for N tokens. The file is there
-- when it is complete; wrk itself goes on until it is ended.
local path, file, limit, count, body = nil, nil, 0, 0, "grant_type=client_credentials"

function init(args)
  path, limit = args[1], tonumber(args[2])
  file = io.open(path .. ".part", "w")
  request = function()
    return wrk.format("POST", "/oauth2/token", {
      ["Host"] = "mint.test", ["Authorization"] = args[3],
      ["Content-Type"] = "application/x-www-form-urlencoded" }, body)
  end
end

function response(status, headers, answer)
  local token = answer:match('"access_token":"([^"]+)"')
  if status == 200 and token and file then
    file:write(token, "\n")
    count = count + 1
  end
  if count >= limit and file then
    file:close()
    file = nil
    os.rename(path .. ".part", path)
    wrk.thread:stop()
  end
end
