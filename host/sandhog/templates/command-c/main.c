/* Totals an order: each line of standard input is a price and a quantity, standard output gets the total. */
#include <stdio.h>
#include <string.h>

#include "total.h"

enum {
    /* The input will never be right: the message becomes a dead letter, with the last line of standard error as the reason. */
    BAD_INPUT = 65,
    /* It may be right later: the message is retried. */
    TRY_LATER = 75,
    ORDER_MAX = 1 << 20
};

static char order[ORDER_MAX + 1];

int main(void) {
    size_t length = fread(order, 1, ORDER_MAX, stdin);
    if (strlen(order) != length) {
        fprintf(stderr, "the order is not text\n");
        return BAD_INPUT;
    }
    if (strspn(order, " \t\r\n") == length) {
        fprintf(stderr, "the order has no items yet\n");
        return TRY_LATER;
    }
    double sum;
    int line;
    if (!total(order, &sum, &line)) {
        fprintf(stderr, "line %d is not a price and a quantity\n", line);
        return BAD_INPUT;
    }
    printf("%.2f\n", sum);
    return 0;
}
