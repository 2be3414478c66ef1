# Totals an order: each line of standard input is a price and a quantity.
total = 0
$stdin.each_line.with_index(1) do |line, number|
  unless line =~ /\A(\d+(?:\.\d+)?) (\d+)\s*\z/
    warn "line #{number} is not a price and a quantity"
    exit 65
  end
  total += $1.to_r * $2.to_i
end
raise "nobody orders for #{total.to_i}" if total > 1000
puts format("%.2f", total)
