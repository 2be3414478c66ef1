#include "total.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Reads a number, and moves behind it. */
static bool number(const char **at, double *value) {
    char *behind;
    *value = strtod(*at, &behind);
    bool some = behind != *at;
    *at = behind;
    return some;
}

bool total(const char *order, double *sum, int *line) {
    *sum = 0;
    *line = 0;
    while (*order != '\0') {
        const char *end = order + strcspn(order, "\n");
        const char *at = order + strspn(order, " \t\r");
        double price, quantity;
        *line += 1;
        if (at < end) {
            if (!number(&at, &price) || !number(&at, &quantity) || !isfinite(price * quantity) ||
                at + strspn(at, " \t\r") != end) {
                return false;
            }
            *sum += price * quantity;
        }
        order = *end == '\n' ? end + 1 : end;
    }
    return true;
}
