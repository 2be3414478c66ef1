-- Totals an order: each line of standard input is a price and a quantity.
local total, number = 0, 0
for line in io.lines() do
  number = number + 1
  local price, quantity = line:match("^(%d+%.?%d*) (%d+)$")
  if not price then
    io.stderr:write("line ", number, " is not a price and a quantity\n")
    os.exit(65)
  end
  total = total + price * quantity
end
if total > 1000 then
  error("nobody orders for " .. total)
end
print(string.format("%.2f", total))
