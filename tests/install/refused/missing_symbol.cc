// Calls what the program does not have.
namespace tanren {
int NoSuchFunction(int);
}
__attribute__((visibility("default"))) int CallIt() { return tanren::NoSuchFunction(1); }
