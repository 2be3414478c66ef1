#ifndef TOTAL_H
#define TOTAL_H

#include <stdbool.h>

/* Adds up the order's lines. False if one is not a price and a quantity; *line is its number then. */
bool total(const char *order, double *sum, int *line);

#endif
