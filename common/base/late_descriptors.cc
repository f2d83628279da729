// Linked into programs of a fast start (cmake/build.cmake), in the place of what protobuf does for each of its files
// before main(): parse the description of its messages. It does so again when a message is asked for its descriptor or
// its reflection, and only JSON and fields that nobody knows need those. (protobuf 3.21: AssignDescriptors; where the
// symbol has another name, all is as it was, but slower.)

extern "C" void __wrap__ZN6google8protobuf8internal20AddDescriptorsRunnerC1EPKNS1_15DescriptorTableE(void*,
                                                                                                     const void*);

void __wrap__ZN6google8protobuf8internal20AddDescriptorsRunnerC1EPKNS1_15DescriptorTableE(void*, const void*) {}
