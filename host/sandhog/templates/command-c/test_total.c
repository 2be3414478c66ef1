/* Tests the total natively: make test. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "total.h"

static void an_order_is_totalled(void) {
    double sum;
    int line;
    assert(total("12.50 2\n3 1\n", &sum, &line) && sum == 28);
    assert(total("\n 12.50 2\r\n\n3 1", &sum, &line) && sum == 28);
}

static void a_line_that_is_no_item_is_named(void) {
    static const char *const orders[] = {"12.50 2\nspade\n", "12.50 2\n3\n4\n", "1 1\n1 2 3\n", "1 1\n1 inf\n"};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        double sum;
        int line;
        assert(!total(orders[i], &sum, &line) && line == 2);
    }
}

int main(void) {
    an_order_is_totalled();
    a_line_that_is_no_item_is_named();
    puts("2 tests passed");
    return 0;
}
